"""Whose record a directory holds: which study's trial, and which study a sweep's directory is of.

A sweep's directory belongs to one study, which its study.json names; the record of a trial names
the study and its number in its result.json. So no sweep writes over the records of another, and
nobody takes the weights of one trial for those of another. Folders may be moved, copied and
renamed: their records stay whose they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.record import RESULT, STUDY, read_config, read_result
from experiments.record.foreign import read_json
from experiments.record.identity import identity

OWNER = "study.json"
"""In a sweep's directory: whose it is."""
DESIGN = "comparison.json"
"""In a sweep's directory: what it compares, how it was planned, and in the end the trials of what
it recommends (`use`)."""
NOT_TRIALS = frozenset({"artifacts", "checkpoints", "csv", "tensorboard", "wandb", "workers"})
"""Folders of a sweep or a trial that hold no trials."""

_FINISHED = ("completed", "pruned")
_DEPTH = 8  # below a sweep's directory, as far as `hydra.sweep.subdir` may lead


@dataclass(frozen=True)
class Membership:
    """A trial's place in a study.

    Attributes:
        id: of the study, unique in the world.
        name: of the study.
        trial: its number; a trial that goes on with another's work has that one's.
    """

    id: str
    name: str
    trial: int

    def __str__(self) -> str:
        return f"trial {self.trial} of the study {self.name!r}"

    def is_same(self, other: Membership | None) -> bool:
        """Whether both are of one trial; a study may have been given another name."""
        return other is not None and (self.id, self.trial) == (other.id, other.trial)

    def plain(self) -> dict[str, Any]:
        """As a result.json has it."""
        return asdict(self)


def membership(content: Mapping[str, Any]) -> Membership | None:
    """What a result.json says; None for a single run, and for records of older versions."""
    value = content.get(STUDY)
    if not isinstance(value, Mapping):
        return None
    id_, name, trial = (value.get(key) for key in ("id", "name", "trial"))
    if isinstance(id_, str) and isinstance(name, str) and type(trial) is int:
        return Membership(id_, name, trial)
    return None


def holds(directory: Path, trial: Membership, config: str | None) -> bool:
    """Whether the record in a directory is that of a trial.

    Args:
        directory: which may hold a record or none.
        trial: of a study.
        config: the trial's `record.identity`, by which the records of older versions are
            known; None where nobody knows it.
    """
    result = result_in(directory)
    if result is None:
        return False
    known = membership(result)
    if known is None:
        return config is None or identity_in(directory, result) in (None, config)
    return known.is_same(trial)


def owner(directory: Path) -> dict[str, str] | None:
    """What the study.json of a sweep's directory says (id, name, storage); None without one."""
    mark = read_object(directory / OWNER)
    if mark is None or not all(isinstance(mark.get(key), str) for key in ("id", "name", "storage")):
        return None
    return mark


def recommended(design: Mapping[str, Any] | None) -> frozenset[int]:
    """Numbers of the trials that a sweep recommends, by what it keeps; none where it does not."""
    use = (design or {}).get("use")
    return frozenset(n for n in use if type(n) is int) if isinstance(use, list) else frozenset()


def is_foreign(result: Mapping[str, Any], owner: Mapping[str, str] | None) -> bool:
    """Whether a record in a sweep's directory is of another study than the directory."""
    known = membership(result)
    return known is not None and owner is not None and known.id != owner["id"]


def refuse_taken(directory: Path) -> None:
    """Raise a `UserError` where a single run would write over a finished one, or into a sweep.

    The trial of a study is that study's, finished or not: its workers go on with it.
    """
    if (directory / OWNER).exists():
        raise UserError(
            f"a run must have a directory of its own, but {directory} is a sweep's; "
            "give another hydra.run.dir"
        )
    result = result_in(directory)
    known = membership(result) if result is not None else None
    if known is not None:
        raise UserError(
            f"a run must have a directory of its own, but {directory} has the record of {known}, "
            "which the sweep's own command continues; give another hydra.run.dir"
        )
    if result is not None and is_finished(result):
        raise UserError(
            "a run must have a directory without the record of a finished one, but "
            f"{directory} holds one; give another hydra.run.dir, or move that away"
        )


def is_finished(result: Mapping[str, Any]) -> bool:
    """Whether nobody may write the record any more; what failed may be tried again."""
    return result.get("status") in _FINISHED


def records_below(directory: Path, depth: int = _DEPTH, most: float = math.inf) -> Iterator[Path]:
    """The directories of all trials in a sweep's directory, however deep, by name.

    Raises:
        UserError: there are more than `most` directories to look into.
    """
    waiting, looked = [(directory, 0)], 0
    while waiting:
        path, level = waiting.pop()
        if level and (path / RESULT).is_file():
            yield path
        if level == depth:
            continue
        looked += 1
        if looked > most:
            raise UserError(
                f"a sweep must be named by its own directory, but {directory} holds more than "
                f"{most:,} directories"
            )
        try:
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if may_hold_trials(entry))
        except OSError:
            continue
        waiting += [(path / name, level + 1) for name in reversed(names)]


def may_hold_trials(entry: os.DirEntry[str]) -> bool:
    """Whether something in a sweep's directory may be a trial's, or hold some."""
    return not entry.name.startswith(".") and entry.name not in NOT_TRIALS and entry.is_dir()


def result_in(directory: Path) -> dict[str, Any] | None:
    """The content of a result.json, or None where there is none that can be read."""
    try:
        return read_result(directory)
    except UserError:
        return None


def identity_in(directory: Path, result: Mapping[str, Any]) -> str | None:
    """The `record.identity` of the trial whose record is there; None if it does not tell."""
    try:
        return identity(read_config(directory), str(result["data"]["fingerprint"]))
    except (UserError, KeyError, TypeError):
        return None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
