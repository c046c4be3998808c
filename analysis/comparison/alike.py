"""What is compared, and which trials can be: those on the same images, alike split and trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis import labels
from analysis.runs import DEGREE, FINGERPRINT, Design, Runs
from experiments.errors import UserError

LOSS = "loss.name"
_SCALES = ("loss.scale", DEGREE)
_MOST_LEVELS = 16
LEVEL = "level"
"""The column with the name of a trial's level."""

_IMAGES = ("data.name", "data.size", "data.channels", "data.fit", FINGERPRINT)
_SOURCE = ("data.root", "data.count", "data.generator_seed")  # where no fingerprint is known
_SPLIT = ("data.val_fraction", "data.test_fraction", "data.split_seed")
_BUDGET = ("max_epochs",)


def design_of(runs: Runs) -> Design | None:
    """How the sweeps compare, as far as they say the same; None where they say nothing."""
    said = list(runs.designs.values())
    if not said:
        return None
    first = said[0]
    is_one = all(one.compare == first.compare for one in said)
    return Design(
        first.compare if is_one and set(first.compare) <= set(runs.trials.columns) else (),
        first.planned if all(one.planned == first.planned for one in said) else None,
        {name: margin for one in said for name, margin in one.margins.items()},
    )


def groups_of(runs: Runs) -> tuple[str, ...]:
    """The columns that are compared: those that the sweep says, else the loss where it varies.

    With the loss go its scale and the degree of it, as far as they vary, since the same loss on
    another scale is another one; but where a sweep says that it compares losses alone, what else
    it searched is chosen for each. Where no loss varies, it is the first parameter that was
    searched by a few choices.
    """
    design = design_of(runs)
    if design is not None and design.compare and LOSS not in design.compare:
        return design.compare
    if design is None or not design.compare:
        found = tuple(name for name in (LOSS, *_SCALES) if _choices(runs, name) > 1)
    else:
        more = (n for n in _SCALES if n not in (*design.compare, *runs.searched))
        found = (*design.compare, *(name for name in more if _choices(runs, name) > 1))
    if found:
        return found
    others = (name for name in runs.searched if 1 < _choices(runs, name) <= _MOST_LEVELS)
    return (next(others, LOSS),)


def check_columns(runs: Runs, by: Sequence[str]) -> None:
    """Raise UserError unless levels can be made by these columns."""
    unknown = [column for column in by if column not in runs.trials.columns]
    if isinstance(by, str) or not by or (unknown and len(runs.trials)):
        choices = [*runs.searched, *(c for c in runs.trials.columns if c == LOSS)]
        raise UserError(
            "`by` must be columns of the trials, such as "
            f"{', '.join(dict.fromkeys(choices)) or LOSS}, but got {by!r}"
        )


def _choices(runs: Runs, name: str) -> int:
    return int(runs.trials[name].nunique()) if name in runs.trials else 0


def comparable(runs: Runs, by: Sequence[str]) -> tuple[Runs, list[str]]:
    """The trials that can be compared, in the order of their numbers, and sentences on the others.

    A sweep of which no trial is left has no say in how they are compared.

    Where they do not agree, those are kept of which most levels, and then most trials, are. They
    have the column `level`. What is compared differs, and so may a budget that was searched.
    """
    trials, notes = _with_levels(runs.trials, by), []
    has_prints = FINGERPRINT in trials and _completed(trials)[FINGERPRINT].notna().any()
    images = _IMAGES if has_prints else (*_IMAGES, *_SOURCE)
    for kind, columns, fixed in (
        ("on other images", images, by),
        ("on another split of the images", _SPLIT, by),
        ("trained on another budget", _BUDGET, (*by, *runs.searched)),
    ):
        names = [c for c in columns if c in trials.columns and c not in fixed]
        trials, found = _majority(trials, names, kind)
        notes += found
    known = runs.trials.reindex(columns=["trial", "sweep"])
    gone = set(known["sweep"]) - set(known.loc[known["trial"].isin(trials["trial"]), "sweep"])
    designs = {name: design for name, design in runs.designs.items() if name not in gone}
    return replace(runs, trials=trials, designs=designs), [*notes, *_old_scale(trials)]


def _with_levels(trials: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    number = pd.to_numeric(trials["number"]).astype("Float64")  # a single run has none
    trials = trials.assign(number=number).sort_values("number", kind="stable", ignore_index=True)
    names = [
        labels.group_label(dict(zip(by, values, strict=True)))
        for values in trials.reindex(columns=list(by)).itertuples(index=False, name=None)
    ]
    return trials.assign(**{LEVEL: names})


def _majority(
    trials: pd.DataFrame, columns: Sequence[str], kind: str
) -> tuple[pd.DataFrame, list[str]]:
    completed = _completed(trials)
    columns = [c for c in columns if completed[c].nunique() > 1]
    if not columns:
        return trials, []
    keys = completed[columns].map(str).agg(tuple, axis=1)
    counts = completed.groupby(keys)[LEVEL].agg(["nunique", "size"])
    most = counts.sort_values(["nunique", "size"], kind="stable").index[-1]
    example = completed[keys == most].iloc[0]
    # What a trial does not say does not speak against it.
    fits = pd.Series(True, index=trials.index)
    for column in columns:
        fits &= trials[column].isna() | trials[column].map(str).eq(str(example[column]))
    others = completed[~fits[completed.index]]
    if others.empty:
        return trials[fits], []
    shown = [
        f"{c}={example[c]}"
        for c in columns
        if c != FINGERPRINT and others[c].map(str).ne(str(example[c])).any()
    ]
    kept = f": compared are those with {labels.listed(shown)}" if shown else ""
    count = len(others)
    return trials[fits], [
        f"{count} trial{'s' if count > 1 else ''} of {labels.listed(list(others[LEVEL].unique()))} "
        f"{'are' if count > 1 else 'is'} left out, {kind}{kept}"
    ]


def _old_scale(trials: pd.DataFrame) -> list[str]:
    """What was trained on the scale of an older version, beside what was not."""
    if not {DEGREE, LOSS} <= set(trials.columns):
        return []
    degrees = trials.groupby(LOSS)[DEGREE].nunique()
    both = list(degrees[degrees > 1].index)
    if not both:
        return []
    return [
        f"{labels.listed(both)} {'was' if len(both) == 1 else 'were'} trained with several values "
        "of loss.degree, such as that of an older version beside today's: these weigh the KL "
        "differently and are levels of their own"
    ]


def _completed(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[trials["status"] == "completed"]
