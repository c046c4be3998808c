"""Commands that add what a comparison lacks.

They repeat what a sweep was started with, as far as that can do no harm (`analysis.repeated`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import repeated
from analysis.runs import DEGREE, Runs, values_of
from experiments.cli.commands import train
from experiments.cli.grammar import key_of, literal
from experiments.record.membership import records_below

SEEDS = "0,1,2"
FINALISTS = 3
"""Configurations that are proposed to be trained again where a search compares no levels."""
_MOST_LISTED = 8
_LEAST_SAVING = 2  # times fewer runs, from which a new study is proposed
_DEPTH = 2  # of a trial below the folder of sweeps: outputs/NAME/sweep/NUMBER
_OF_SEARCH = (
    "sweep=wandb", "sweep.compare", "sweep.confirm", "sweep.stop", "hydra/sweeper/",
    "hydra.sweeper.n_trials",
    "hydra.sweeper.timeout", "hydra.sweeper.study_name", "hydra.sweeper.sampler",
    "hydra.sweeper.pruner", "hydra.sweeper.params", "hydra.sweeper.conditions", repeated.DIRECTORY,
)  # fmt: skip
"""How overrides begin that say how a sweep searches and confirms, and which one it is."""


class Settling(NamedTuple):
    """A command that trains more seeds, what it costs, as «6 more runs», and what that would do."""

    command: str
    cost: str
    purpose: str = ""


class Fresh(NamedTuple):
    """A study of its own, of what is open alone: its levels' values of columns, and the seeds."""

    levels: Sequence[Mapping[str, Any]]
    seeds: int


def settle(
    runs: Runs,
    by: Sequence[str],
    seeds: int | None,
    have: Sequence[int],
    chosen: Sequence[Mapping[str, Any]],
    *,
    confirmed: bool,
    fresh: Fresh | None = None,
    margins: Mapping[str, float] | None = None,
) -> Settling | None:
    """Train more seeds, in the way that takes fewest runs; None where none is known.

    That is more seeds of what was trained, or fresh ones of the best of each level: both are the
    sweep's own command with another override or two, so that what is done is kept. Or it is a
    study of what is open alone, under a name of its own.

    Args:
        runs: to add to.
        by: columns that are compared; none where a search compares configurations.
        seeds: that each level needs in all, with those that it has; None if that are too many.
        have: how many those that need more have by now.
        chosen: values of columns of what stands for each level.
        confirmed: whether these are fresh seeds of what was chosen.
        fresh: what a new plan would take.
        margins: by metric, those that a reader asked for.
    """
    sweep, of_run = repeated.sweep_of(runs), repeated.run_overrides(runs)
    typed = (of_run or []) if sweep is None else sweep.overrides
    if not by:
        chosen = chosen[:FINALISTS]
    is_search = not by or (sweep is not None and sweep.is_search)
    done = runs.trials[runs.trials["status"] == "completed"]
    has_others = is_search or done["configuration"].nunique() > len(chosen)
    plan = fresh.seeds if fresh is not None else seeds
    ways = list[_Option]()
    if sweep is None and (confirmed or has_others):  # nobody knows how it was searched
        levels = fresh.levels if fresh is not None else chosen
        is_grid = _is_product(levels)
        if is_grid or not confirmed:  # what was not chosen yet may be crossed
            levels = levels if is_grid or by else levels[:1]
            ways.append(_new_study(runs, typed, levels, plan or 0))
    elif confirmed and seeds is not None:
        missing = sum(max(0, seeds - count) for count in have)
        ways.append(_Option(missing, typed, _confirming(seeds, by, is_first=False), is_guess=True))
    elif not confirmed and has_others and plan is not None:
        changed = _confirming(plan, by, is_first=True)
        ways.append(_Option(plan * len(chosen), typed, changed, is_guess=True))
    if seeds is not None and not confirmed and not is_search:
        is_single = runs.trials["seed"].nunique() < 2
        if not (is_single and has_others):  # in which all would be trained again, bad ones as well
            ways.append(_wider_grid(runs, sweep, typed, seeds))
    if fresh is not None and (confirmed or not has_others) and _is_product(fresh.levels):
        ways.append(_new_study(runs, typed, fresh.levels, fresh.seeds))
    ways = [way for way in ways if way.runs > 0]
    if not ways:
        return None
    # A new study forgets what there is, and may err anew.
    best = min(ways, key=lambda way: way.runs * (_LEAST_SAVING if way.is_new else 1))
    if margins:
        given = ", ".join(f"{name}: {value:g}" for name, value in margins.items())
        best.changed["sweep.margins"] = f"{{{given}}}"
    is_known = sweep is not None or of_run is not None
    more = "" if is_known else " (add what else was typed for them, which is not known from here)"
    cost = f"{'about ' if best.is_guess else ''}{_cost(runs, best.runs, sweep)}"
    return Settling(_command(best.typed, best.changed), cost, more)


class _Option(NamedTuple):
    """How many runs a way takes, and the overrides of its command.

    A new study has a name of its own. A confirmation ends early where all is decided, and goes on
    where something is open, so that its runs are a guess.
    """

    runs: int
    typed: Sequence[str]
    changed: dict[str, str]
    is_new: bool = False
    is_guess: bool = False


def _confirming(seeds: int, by: Sequence[str], *, is_first: bool) -> dict[str, str]:
    changed = {"sweep.confirm": "1" if by else str(FINALISTS)} if is_first else {}
    changed["sweep.confirm_seeds"] = str(seeds)
    if by and tuple(by) != ("loss.name",):
        keys = [_key(column) for column in by]
        changed["sweep.compare"] = keys[0] if len(keys) == 1 else f"[{','.join(keys)}]"
    return changed


def _wider_grid(
    runs: Runs, sweep: repeated.Sweep | None, typed: Sequence[str], seeds: int
) -> _Option:
    """The same grid with so many seeds, those that were trained among them."""
    known = _seeds(runs)
    new = [seed for seed in range(seeds + len(known)) if seed not in known]
    every = [*known, *new[: max(0, seeds - len(known))]]
    changed = {} if sweep is not None else _choices(runs.trials, runs)
    changed["seed"] = _listed(every)
    # Single runs become a sweep, which trains them again.
    done = 0 if sweep is None else len(runs.trials[["configuration", "seed"]].drop_duplicates())
    return _Option(len(every) * runs.trials["configuration"].nunique() - done, typed, changed)


def _new_study(
    runs: Runs, typed: Sequence[str], levels: Sequence[Mapping[str, Any]], seeds: int
) -> _Option:
    """Levels with seeds above all of these, under a name of its own.

    Seeds between them may be those of the study from which this one came.
    """
    rows = pd.DataFrame(list(levels))
    first = max(_seeds(runs), default=-1) + 1
    changed = _no_search(runs) | _choices(rows, runs)
    changed["seed"] = _listed(range(first, first + seeds))
    name = _name(runs)
    if name is not None:
        changed["name"] = literal(_next_name(name, runs))
    kept = [text for text in typed if not _is_searched(text)]
    return _Option(seeds * math.prod(_counts(rows)), kept, changed, is_new=True)


def _seeds(runs: Runs) -> list[int]:
    return sorted({int(seed) for seed in runs.trials["seed"].dropna()})


def _is_product(levels: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a grid holds these levels and nothing else: each has the same other settings."""
    rows = pd.DataFrame(list(levels))
    return math.prod(_counts(rows)) == len(rows)


def _counts(rows: pd.DataFrame) -> list[int]:
    """How many values each column has; options that no level has are as good as one."""
    return [max(1, len(values_of(rows, column))) for column in rows.columns]


def _next_name(name: str, runs: Runs) -> str:
    """`cats-2` after `cats`, and `cats-3` after that; the first that has no directory yet."""
    found = re.fullmatch(r"(.*)-(\d{1,3})", name)
    stem, number = (found[1], int(found[2]) + 1) if found else (name, 2)
    outputs = {
        path.parents[2] for path in repeated.directories_of(runs) if len(path.parents) > _DEPTH
    }
    while any((folder / f"{stem}-{number}").exists() for folder in outputs):
        number += 1
    return f"{stem}-{number}"


def _listed(seeds: Sequence[int]) -> str:
    """Seeds of an override: `0,1,2`, or `range(0,12)` of many in a row."""
    is_row = len(seeds) > _MOST_LISTED and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"range({seeds[0]},{seeds[-1] + 1})" if is_row else ",".join(map(str, seeds))


def _cost(runs: Runs, missing: int, sweep: repeated.Sweep | None) -> str:
    said = f"{missing} more run{'' if missing == 1 else 's'}"
    column = "seconds/total" if "seconds/total" in runs.trials else "seconds/fit"
    if column not in runs.trials:
        return said
    seconds = runs.trials.loc[runs.trials["status"] == "completed", column].mean()
    if not seconds > 0:
        return said
    minutes = missing * seconds / 60 / (sweep.workers if sweep is not None else 1)
    return f"{said} (about {minutes:.0f} minutes)" if minutes >= 2 else f"{said} (a minute or two)"


def finish(runs: Runs, missing: int) -> Settling | None:
    """The sweep's own command, which trains what is missing of it; None where nobody knows it."""
    sweep = repeated.sweep_of(runs)
    if sweep is None:
        return None
    cost = _cost(runs, missing, sweep)
    return Settling(_command(sweep.overrides, {}), cost, "would finish the sweep")


def may_stop_early(runs: Runs) -> bool:
    """Whether the sweep was told to end before all of its trials are trained."""
    sweep = repeated.sweep_of(runs)
    return sweep is not None and any(
        text.lstrip("+").startswith(("sweep.stop", "hydra.sweeper.timeout"))
        for text in sweep.overrides
    )


def _no_search(runs: Runs) -> dict[str, str]:
    """What makes a grid of the command of a search, or of its preset."""
    sweep = repeated.sweep_of(runs)
    if sweep is None or not sweep.is_search:
        return {}
    return {"hydra.sweeper.n_trials": "null", "sweep.confirm": "0"}


def is_part(runs: Runs) -> bool:
    """Whether the sweep has more trials than these: no command adds to some of them."""
    held = Counter(directory.parent for directory in repeated.directories_of(runs))
    return any(
        (parent / "multirun.yaml").is_file()
        and sum(path.parent == parent for path in records_below(parent, 1)) > count
        for parent, count in held.items()
    )


def go_on(directory: Path, *, retry_failed: bool = False) -> str | None:
    """The command that made the sweep of a directory, which also continues it; None if unknown.

    Args:
        directory: of the sweep.
        retry_failed: have it train again what failed.
    """
    sweep = repeated.sweep_in(directory)
    if sweep is None:
        return None
    return _command(sweep.overrides, {"sweep.retry_failed": "true"} if retry_failed else {})


def left_out(directory: Path) -> list[str]:
    """Keys that `go_on` does not repeat of the sweep's command, since they could do harm."""
    return repeated.split(repeated.typed_in(directory))[1]


def vary_beta(
    runs: Runs, fixed: Mapping[str, Any], losses: Sequence[str], betas: str, part: str = ""
) -> str:
    """Trains losses at several weights of the KL term, all else fixed.

    Args:
        runs: whose other settings are kept.
        fixed: values of columns.
        losses: to compare.
        betas: of the override.
        part: what distinguishes its name, where there are several such commands: a sweep is
            refused that differs from an earlier one of its name in what it does not search.
    """
    sweep = repeated.sweep_of(runs)
    typed = (repeated.run_overrides(runs) or []) if sweep is None else sweep.overrides
    overrides = [text for text in typed if not _is_searched(text)]
    changed = {
        "name": literal(rate_name(runs, part)),
        **_no_search(runs),
        **{_key(column): _text(column, value) for column, value in fixed.items()},
        "loss": ",".join(losses),
        "beta": betas,
        "seed": SEEDS,
    }
    return _command(overrides, changed)


def rate_name(runs: Runs, part: str) -> str:
    """The name of the sweep of `vary_beta`."""
    return "-".join(filter(None, (_name(runs), "rate", part)))


def _choices(rows: pd.DataFrame, runs: Runs) -> dict[str, str]:
    """Overrides that list what trials took, or what was chosen of it."""
    name = _name(runs)
    choices = {"name": literal(name)} if name else {}
    for column in runs.searched:
        if column in rows.columns:
            values = values_of(rows, column)
            choices[_key(column)] = ",".join(_text(column, value) for value in values)
    return choices


def _is_searched(override: str) -> bool:
    """Whether an override has several values, as far as its text tells, or says how to search."""
    value = override.partition("=")[2]
    is_swept = ("," in value and value[:1] not in "[{'\"") or re.match(r"[a-z_]+\(", value)
    return bool(is_swept) or override.lstrip("+").startswith(_OF_SEARCH)


def _name(runs: Runs) -> str | None:
    if "name" not in runs.trials.columns:
        return None
    names = runs.trials["name"].dropna()
    return None if names.empty else str(names.iloc[0])


def _key(column: str) -> str:
    """The override for a column: `loss` for `loss.name`."""
    return column.removesuffix(".name")


def _text(column: str, value: Any) -> str:
    # A mapping was kept as the text of one, and so is the degree.
    if column == DEGREE or (isinstance(value, str) and value.startswith(("[", "{"))):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return literal(list(value) if isinstance(value, tuple) else value)


def _command(typed: Sequence[str], changed: Mapping[str, str]) -> str:
    """What was typed, with some keys changed."""
    kept = [text for text in typed if key_of(text) not in changed]
    return train("-m", *kept, *(f"{key}={value}" for key, value in changed.items()))
