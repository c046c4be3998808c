"""What is compared, and which trials can be: those on the same images, alike split and trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from analysis import labels
from analysis.runs import DEGREE, FINGERPRINT, Design, Runs, values_of
from decisions import LEAST_PLAN
from experiments.errors import UserError

LOSS = "loss.name"
_SCALES = ("loss.scale", DEGREE)
MOST_LEVELS = 16
"""Of configurations: the best of more are compared."""
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
    compared = {one.compare for one in said if one.compare}
    compare = compared.pop() if len(compared) == 1 else ()
    margins: dict[str, float] = {}
    for name, margin in (item for one in said for item in one.margins.items()):
        margins[name] = min(margin, margins.get(name, margin))  # what is equal by each of them
    return Design(
        compare if set(compare) <= set(runs.trials.columns) else (),
        said[0].planned if len({looks(one) for one in said}) == 1 else None,
        margins,
    )


def looks(design: Design) -> int | None:
    """The number of seeds that was planned, as far as it says when somebody looks."""
    return design.planned and max(design.planned, LEAST_PLAN)


def groups_of(runs: Runs) -> tuple[str, ...]:
    """The columns that are compared: those that the sweep says, else the loss where it varies.

    With the loss go its scale and the degree of it, as far as they vary, since the same loss on
    another scale is another one; but where a sweep says that it compares losses alone, what else
    it searched is chosen for each. Where nobody says and no loss varies, it is the first parameter
    that was searched by a few choices; and where there is none, or a sweep says that it compares
    nothing, all that was searched: each configuration is then a level.
    """
    design = design_of(runs)
    compare = design.compare if design is not None else ()
    if compare and LOSS not in compare:
        return compare
    if compares_configurations(runs):
        return configurations_of(runs) or (LOSS,)
    scales = (name for name in _SCALES if not compare or name not in (*compare, *runs.searched))
    names = (*(compare or (LOSS,)), *scales)
    found = tuple(name for name in names if name in compare or _choices(runs, name) > 1)
    if found:
        return found
    return next(((name,) for name in runs.searched if _is_listed(runs, name)), (LOSS,))


def compares_configurations(runs: Runs) -> bool:
    """Whether each configuration is a level, since a search compares nothing else."""
    if runs.designs:
        return not any(design.compare for design in runs.designs.values())
    is_compared = any(_choices(runs, name) > 1 for name in (LOSS, *_SCALES))
    return not is_compared and not any(_is_listed(runs, name) for name in runs.searched)


def configurations_of(runs: Runs) -> tuple[str, ...]:
    """The columns by which the configurations that were searched differ."""
    return tuple(name for name in runs.searched if _choices(runs, name) > 1)


def _is_listed(runs: Runs, name: str) -> bool:
    """Whether a parameter seems to have been chosen from a list: by few values, and round ones."""
    if not 1 < _choices(runs, name) <= MOST_LEVELS:
        return False
    values = runs.trials[name].dropna()
    return not any(isinstance(v, float) and float(f"{v:.3g}") != v for v in values)


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
    """How many values of a column there are; null is one if a completed trial has it."""
    if name not in runs.trials:
        return 0
    is_null = None in values_of(_completed(runs.trials), name)
    return int(runs.trials[name].nunique()) + is_null


class Comparable(NamedTuple):
    """The trials that can be compared.

    Attributes:
        runs: with these trials alone, which have the column `level`.
        notes: sentences on the others.
        lost: sentences on levels of which no trial is left.
    """

    runs: Runs
    notes: list[str]
    lost: list[str]


def comparable(runs: Runs, by: Sequence[str]) -> Comparable:
    """The trials that can be compared, sweep by sweep in the order of their numbers.

    Where they do not agree, those are kept of which most levels, and then most trials, are. What
    is compared differs, and so may a budget that was searched.
    """
    trials, notes, lost = _with_levels(runs.trials, by), [], []
    has_prints = FINGERPRINT in trials and _completed(trials)[FINGERPRINT].notna().any()
    images = _IMAGES if has_prints else (*_IMAGES, *_SOURCE)
    for kind, columns, fixed in (
        ("on other images", images, by),
        ("on another split of the images", _SPLIT, by),
        ("on another budget", _BUDGET, (*by, *runs.searched)),
    ):
        names = [c for c in columns if c in trials.columns and c not in fixed]
        before, sweeps = dict.fromkeys(_completed(trials)[LEVEL]), _sweeps(_completed(trials))
        trials, found = _majority(trials, names, kind)
        notes += found
        out = [name for name in sweeps if name not in _sweeps(_completed(trials))]
        gone = [name for name in before if name not in set(_completed(trials)[LEVEL])]
        if gone:
            where = f" in {labels.listed(out)}" if out else ""
            verb = "was" if len(gone) == 1 else "were"
            lost.append(f"not compared: {labels.listed(gone)}, which {verb} trained {kind}{where}")
        elif out:
            lost.append(f"no trial of {labels.listed(out)} counts: they were trained {kind}")
    notes += _old_scale(trials)
    return Comparable(of_trials(replace(runs, trials=trials), trials["trial"]), notes, lost)


def of_trials(runs: Runs, names: Iterable[str]) -> Runs:
    """The same runs with the designs of the sweeps that these trials are of.

    A sweep of which no trial counts has no say in how the others are compared; nor has one with a
    single seed beside such that have several: nobody has seen by it how seeds differ.
    """
    known = runs.trials.reindex(columns=["trial", "sweep", "seed"])
    seeds = known[known["trial"].isin(set(names))].groupby("sweep")["seed"].nunique()
    sweeps = set(seeds.index[seeds > 1]) or set(seeds.index)
    designs = {name: one for name, one in runs.designs.items() if name in sweeps}
    return replace(runs, designs=designs)


def unsearched(runs: Runs, by: Sequence[str]) -> list[str]:
    """Columns by which trials differ although no sweep searched them, such as the batch size."""
    known = {*by, *runs.searched, *_IMAGES, *_SOURCE, *_SPLIT, *_SCALES}
    return [c for c in runs.varied if c not in known and runs.trials[c].nunique() > 1]


def _with_levels(trials: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    number = pd.to_numeric(trials["number"]).astype("Float64")  # a single run has none
    sweep = trials.reindex(columns=["sweep"])["sweep"]
    order = pd.DataFrame({"sweep": pd.factorize(sweep)[0], "number": number})
    order = order.sort_values(["sweep", "number"], kind="stable")
    trials = trials.assign(number=number).loc[order.index].reset_index(drop=True)
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
    kept = f" with {labels.listed(shown)}" if shown else ""
    sweeps = _sweeps(completed[fits[completed.index]])
    if not set(sweeps) & set(_sweeps(others)):  # the fingerprint says nothing to people
        kept = f" of {labels.listed(sweeps)}{kept}"
    count = len(others)
    return trials[fits], [
        f"{count} trial{'s' if count > 1 else ''} of {labels.listed(list(others[LEVEL].unique()))} "
        f"{'are' if count > 1 else 'is'} left out, trained {kind}"
        f"{f': compared are those{kept}' if kept else ''}"
    ]


def _sweeps(trials: pd.DataFrame) -> list[str]:
    return [str(name) for name in trials.reindex(columns=["sweep"])["sweep"].dropna().unique()]


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
