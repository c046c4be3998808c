"""What was typed for a sweep, as far as it may be repeated in a command for people to run.

The sweep may be somebody else's, and what is typed is the user's word: so only what a trial is and
how it is searched, and none of what says where files and metrics go or what a launcher runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from analysis.runs import Runs
from experiments.cli.grammar import literal
from experiments.config.decided import BY_THE_RECORD

DIRECTORY, _STORAGE = "hydra.sweep.dir", "hydra.sweeper.storage"

_GROUPS = {"data", "model", "loss", "logger", "experiments", "sweep"}
_SEARCH = {
    "hydra/sweeper/sampler", "hydra/sweeper/pruner", "hydra/launcher", "hydra.sweeper.n_trials",
    "hydra.sweeper.timeout", "hydra.sweeper.study_name", "hydra.verbose", "report",
}  # fmt: skip
_OF_SECTIONS = ("model.", "loss.", "trainer.", "sweep.")
_OF_SEARCH = ("hydra.sweeper.sampler.", "hydra.sweeper.pruner.", "hydra.sweeper.conditions.")
_NUMBERED = ("hydra.launcher.", "hydra.sweeper.n_jobs")
_PARAMS = "hydra.sweeper.params."
_WITHIN = {*_GROUPS, "kl", "optimizer", "trainer", "evaluation", "hydra"}
_OVERRIDE = re.compile(r"\+{0,2}([\w./-]+)=(.*)")
_NUMBER = re.compile(r"null|true|false|\d{1,5}")
_MOST_WORKERS = 256


def split(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """The overrides that can do no harm, and the keys of the others."""
    kept, left_out = [], []
    for text in overrides:
        if is_harmless(text):
            kept.append(text)
        else:
            left_out.append(text.partition("=")[0].lstrip("+~"))
    return kept, [key for key in left_out if key.isprintable()]


def is_harmless(override: str) -> bool:
    """Whether an override only says what a trial is, or how it is searched."""
    found = _OVERRIDE.fullmatch(override)
    if found is None or not override.isprintable():
        return False
    key, value = found.groups()
    if "${" in value or "_target_" in override:
        return False
    if key.startswith(_NUMBERED):
        return bool(_NUMBER.fullmatch(value)) and (
            key != _NUMBERED[1] or not value.isdecimal() or int(value) <= _MOST_WORKERS
        )
    if key in _WITHIN:  # a mapping would set any key below
        return key in _GROUPS and "{" not in value
    if key.startswith(_PARAMS):
        return is_harmless(f"{key.removeprefix(_PARAMS)}={value}")
    return key in BY_THE_RECORD | _SEARCH or key.startswith((*_OF_SECTIONS, *_OF_SEARCH))


class Sweep(NamedTuple):
    """What was typed after `python run.py -m`, whether a sampler chose, and how many workers."""

    overrides: list[str]
    is_search: bool
    workers: int


def sweep_of(runs: Runs) -> Sweep | None:
    """The sweep that the trials are of, if its directory is here."""
    parents = dict.fromkeys(directory.parent for directory in directories_of(runs))
    return next(filter(None, map(sweep_in, parents)), None)


def sweep_in(directory: Path) -> Sweep | None:
    """The sweep of a directory; None if it is none of vaesweep."""
    said = _multirun(directory)
    typed = typed_in(directory)
    try:
        sweeper = said["sweeper"]
        space = [*typed, *map(str, sweeper["params"].values())]
    except (KeyError, TypeError, AttributeError):
        return None
    overrides, missing = split(typed)
    if DIRECTORY in missing:  # it is where it is now, whatever it says
        path = str(directory.absolute())
        is_plain = re.fullmatch(r"[\w./+-]+", path, re.ASCII)
        overrides.append(f"{DIRECTORY}={path if is_plain else literal(path)}")
    if _STORAGE in missing:
        overrides.append(f"{_STORAGE}=URL")
    sampled = sweeper.get("n_trials") is not None or any("interval(" in text for text in space)
    workers = sweeper.get("n_jobs")
    return Sweep(overrides, sampled, max(1, workers) if type(workers) is int else 1)


def _multirun(directory: Path) -> Any:
    """What Hydra left of a sweep's command and settings."""
    content = _read(directory / "multirun.yaml")
    return content.get("hydra") if isinstance(content, dict) else None


def typed_in(directory: Path) -> list[str]:
    """What was typed for the sweep of a directory; nothing where nobody knows."""
    try:
        overrides = _multirun(directory)["overrides"]
        texts = [*map(str, overrides["task"]), *map(str, overrides["hydra"])]
    except (KeyError, TypeError):
        return []
    return [text for text in texts if not text.startswith("hydra.mode=")]


def run_overrides(runs: Runs) -> list[str] | None:
    """What was typed for the first single run whose directory is here; None if nobody knows."""
    for directory in directories_of(runs):
        content = _read(directory / ".hydra" / "overrides.yaml")
        if isinstance(content, list):
            return split(map(str, content))[0]
    return None


def directories_of(runs: Runs) -> list[Path]:
    """Of the trials, as far as they have one."""
    if "directory" not in runs.trials.columns:
        return []
    return [Path(str(directory)) for directory in runs.trials["directory"].dropna()]


def _read(path: Path) -> Any:
    """The content of a YAML file; None where there is none that can be read."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return None
