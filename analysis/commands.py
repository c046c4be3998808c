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
from analysis.runs import DEGREE, Runs
from experiments.cli.commands import train
from experiments.cli.grammar import key_of, literal
from experiments.record.membership import records_below

_DIRECTORY, _STORAGE = "hydra.sweep.dir", "hydra.sweeper.storage"
SEEDS = "0,1,2"
_OF_SEARCH = (
    "sweep=", "sweep.c", "sweep.stop", "hydra/sweeper/", "hydra.sweeper.n_trials",
    "hydra.sweeper.timeout", "hydra.sweeper.study_name", "hydra.sweeper.sampler",
    "hydra.sweeper.pruner", "hydra.sweeper.params", "hydra.sweeper.conditions", _DIRECTORY,
)  # fmt: skip
"""How overrides begin that say how a sweep searches and confirms, and which one it is."""


class Settling(NamedTuple):
    """A command that trains more seeds, what it costs, as «6 more runs», and what that would do."""

    command: str
    cost: str
    purpose: str = ""


def settle(
    runs: Runs,
    by: Sequence[str],
    seeds: int,
    have: Sequence[int],
    chosen: Sequence[Mapping[str, Any]],
    *,
    confirmed: bool,
    margins: Mapping[str, float] | None = None,
) -> Settling:
    """Train more seeds: fresh ones of the best of each level, or more of a whole grid.

    It is the sweep's own command with another override or two, so that what is done is kept. Of a
    grid with several configurations of each level it is what takes fewer runs.

    Args:
        runs: to add to.
        by: columns that are compared.
        seeds: that each level needs in all.
        have: how many those that need more have by now.
        chosen: values of columns of what stands for each level.
        confirmed: whether these are fresh seeds of what was chosen.
        margins: by metric, those that a reader asked for.
    """
    sweep = _sweep(runs)
    known = sorted({int(seed) for seed in runs.trials["seed"].dropna()})
    new = [seed for seed in range(seeds + len(known)) if seed not in known]
    added = new[: max(0, seeds - len(known))]
    configurations = runs.trials["configuration"].nunique()
    missing = sum(max(0, seeds - count) for count in have) if confirmed else seeds * len(chosen)
    is_sampled = sweep is not None and sweep.is_search
    has_best = configurations > len(chosen) and (
        len(known) < 2 or len(added) * configurations > missing
    )
    if not (confirmed or is_sampled or has_best):
        changed = {} if sweep is not None else _choices(runs.trials, runs)
        changed["seed"] = ",".join(map(str, [*known, *added]))
        missing = len(added) * configurations
    elif sweep is None:  # whose search nobody knows: the best, with seeds that chose none
        best = pd.DataFrame(list(chosen))
        changed = _choices(best, runs) | {"seed": ",".join(map(str, new[:seeds]))}
        missing = seeds * math.prod(best.nunique())
    else:
        changed = {} if confirmed else {"sweep.confirm": "1"}
        changed["sweep.confirm_seeds"] = str(seeds)
        if tuple(by) != ("loss.name",):
            keys = [_key(column) for column in by]
            changed["sweep.compare"] = keys[0] if len(keys) == 1 else f"[{','.join(keys)}]"
    if margins:
        given = ", ".join(f"{name}: {value:g}" for name, value in margins.items())
        changed["sweep.margins"] = f"{{{given}}}"
    typed = _run_overrides(runs) if sweep is None else sweep.overrides
    return Settling(_command(typed, changed), _cost(runs, missing, sweep))


def _cost(runs: Runs, missing: int, sweep: _Sweep | None) -> str:
    said = f"{missing} more run{'' if missing == 1 else 's'}"
    column = "seconds/total" if "seconds/total" in runs.trials else "seconds/fit"
    if column not in runs.trials:
        return said
    seconds = runs.trials.loc[runs.trials["status"] == "completed", column].mean()
    if not seconds > 0:
        return said
    minutes = missing * seconds / 60 / (sweep.workers if sweep is not None else 1)
    return f"{said} (about {minutes:.0f} minutes)" if minutes >= 2 else f"{said} (a minute or two)"


def is_part(runs: Runs) -> bool:
    """Whether the sweep has more trials than these: no command adds to some of them."""
    held = Counter(directory.parent for directory in _directories(runs))
    return any(
        (parent / "multirun.yaml").is_file()
        and sum(path.parent == parent for path in records_below(parent, 1)) > count
        for parent, count in held.items()
    )


def go_on(directory: Path) -> str | None:
    """The command that made the sweep of a directory, which also continues it; None if unknown."""
    sweep = _sweep_in(directory)
    return None if sweep is None else _command(sweep.overrides, {})


def left_out(directory: Path) -> list[str]:
    """Keys that `go_on` does not repeat of the sweep's command, since they could do harm."""
    return repeated.split(_typed(_multirun(directory)))[1]


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
    sweep = _sweep(runs)
    typed = _run_overrides(runs) if sweep is None else sweep.overrides
    overrides = [
        text for text in typed if not (_is_swept(text) or text.lstrip("+").startswith(_OF_SEARCH))
    ]
    changed = {
        "name": literal(rate_name(runs, part)),
        **{_key(column): _text(column, value) for column, value in fixed.items()},
        "loss": ",".join(losses),
        "beta": betas,
        "seed": SEEDS,
    }
    return _command(overrides, changed)


def rate_name(runs: Runs, part: str) -> str:
    """The name of the sweep of `vary_beta`."""
    return "-".join(filter(None, (_name(runs), "rate", part)))


class _Sweep(NamedTuple):
    """What was typed after `python run.py -m`, whether a sampler chose, and how many workers."""

    overrides: list[str]
    is_search: bool
    workers: int


def _sweep(runs: Runs) -> _Sweep | None:
    """The sweep that the trials are of, if its directory is here."""
    parents = dict.fromkeys(directory.parent for directory in _directories(runs))
    return next(filter(None, map(_sweep_in, parents)), None)


def _sweep_in(directory: Path) -> _Sweep | None:
    """The sweep of a directory; None if it is none of vaesweep."""
    said = _multirun(directory)
    typed = _typed(said)
    try:
        sweeper = said["sweeper"]
        space = [*typed, *map(str, sweeper["params"].values())]
    except (KeyError, TypeError, AttributeError):
        return None
    overrides, missing = repeated.split(typed)
    if _DIRECTORY in missing:  # it is where it is now, whatever it says
        path = str(directory.absolute())
        is_plain = re.fullmatch(r"[\w./+-]+", path, re.ASCII)
        overrides.append(f"{_DIRECTORY}={path if is_plain else literal(path)}")
    if _STORAGE in missing:
        overrides.append(f"{_STORAGE}=URL")
    sampled = sweeper.get("n_trials") is not None or any("interval(" in text for text in space)
    workers = sweeper.get("n_jobs")
    return _Sweep(overrides, sampled, max(1, workers) if type(workers) is int else 1)


def _multirun(directory: Path) -> Any:
    """What Hydra left of a sweep's command and settings."""
    content = _read(directory / "multirun.yaml")
    return content.get("hydra") if isinstance(content, dict) else None


def _typed(said: Any) -> list[str]:
    """What was typed for a sweep."""
    try:
        overrides = said["overrides"]
        texts = [*map(str, overrides["task"]), *map(str, overrides["hydra"])]
    except (KeyError, TypeError):
        return []
    return [text for text in texts if not text.startswith("hydra.mode=")]


def _run_overrides(runs: Runs) -> list[str]:
    """What was typed for the first single run whose directory is here."""
    for directory in _directories(runs):
        content = _read(directory / ".hydra" / "overrides.yaml")
        if isinstance(content, list):
            return repeated.split(map(str, content))[0]
    return []


def _directories(runs: Runs) -> list[Path]:
    if "directory" not in runs.trials.columns:
        return []
    return [Path(str(directory)) for directory in runs.trials["directory"].dropna()]


def _read(path: Path) -> Any:
    """The content of a YAML file; None where there is none that can be read."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _choices(rows: pd.DataFrame, runs: Runs) -> dict[str, str]:
    """Overrides that list what trials took, or what was chosen of it."""
    name = _name(runs)
    choices = {"name": literal(name)} if name else {}
    for column in runs.searched:
        if column in rows.columns:
            values = rows[column].dropna().drop_duplicates()
            choices[_key(column)] = ",".join(_text(column, value) for value in values)
    return choices


def _is_swept(override: str) -> bool:
    """Whether an override has several values, as far as its text tells."""
    value = override.partition("=")[2]
    return ("," in value and value[:1] not in "[{'\"") or "(" in value


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
