"""Directories of a sweep and its trials: each has one owner, and nobody writes over another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path, PurePosixPath

from optuna.trial import FrozenTrial

from experiments.errors import UserError
from experiments.record import CLAIM, LAST, RESULT, STUDY
from experiments.record.files import create, remove
from experiments.record.membership import (
    NOT_TRIALS,
    OWNER,
    Membership,
    identity_in,
    is_finished,
    membership,
    owner,
    read_object,
    records_below,
    result_in,
)
from sweeps.storage.attributes import DIRECTORY, counted, is_paused

_LONGEST = 200  # bytes of a name; file systems take 255, and a number may follow


def check_owner(directory: Path, id_: str | None, name: str, configs: Collection[str]) -> None:
    """Refuse a directory in which another study's records lie.

    Args:
        directory: of a sweep; it need not exist.
        id_: of the study whose trials are to leave their records there; None for a new one.
        name: of that study.
        configs: the `record.identity` of its trials, by which records of older versions,
            which name no study, are known.

    Raises:
        UserError: the directory is another study's, or that of a single run.
    """
    if (directory / RESULT).exists():
        raise UserError(
            f"a sweep must have a directory of its own, but {directory} is that of a single run; "
            "give this sweep another hydra.sweep.dir"
        )
    mark = owner(directory)
    if mark is not None:
        if mark["id"] != id_:
            raise _refusal(directory, f"the study {mark['name']!r} in {mark['storage']}", name)
        return
    for record in records_below(directory):
        result = result_in(record)
        if result is None:  # a broken one
            continue
        known = membership(result)
        if known is not None and known.id != id_:
            raise _refusal(directory, f"the study {known.name!r}", name)
        if known is None and identity_in(record, result) not in (None, *configs):
            raise _refusal(directory, f"another one (such as {record})", name)


def take(directory: Path, id_: str, name: str, storage: str) -> None:
    """Note in a directory, once, that it belongs to a study.

    Args:
        directory: of a sweep.
        id_: of the study.
        name: of the study.
        storage: of the study, for people; without its password.

    Raises:
        UserError: another study was faster.
    """
    mark = {"id": id_, "name": name, "storage": storage}
    if not create(directory / OWNER, json.dumps(mark, indent=2) + "\n"):
        check_owner(directory, id_, name, ())


def place(directory: Path, subdir: str, trial: Membership, config: str) -> Path:
    """The directory of a trial's record: its own from now on, and found again when it resumes.

    Where `hydra.sweep.subdir` gives several trials one name, the later ones get their number
    behind it.

    Args:
        directory: of the sweep.
        subdir: as `checked` returns it.
        trial: of a study.
        config: its `experiments.record.identity`.

    Raises:
        OSError: it cannot be made.
    """
    numbered = f"{subdir}_{trial.trial}"
    for name in (subdir, numbered):
        if _is_of(directory / name, trial, config):
            return directory / name
    for name in _endless(subdir, numbered):
        path = directory / name
        if _is_of(path, trial, config) or _claim(path, trial):
            return path
    raise AssertionError


def checked(subdir: str) -> str:
    """A trial's subdirectory with names that a file system takes.

    Raises:
        UserError: it leads out of the sweep's directory, or to what is not for trials.
    """
    path = PurePosixPath(subdir)
    wrong = [p for p in path.parts if p.startswith(".") or p in NOT_TRIALS]
    if path.is_absolute() or not path.parts or wrong:
        raise UserError(
            "`hydra.sweep.subdir` must name a directory within the sweep's, none that begins with "
            f"a dot or is called {', '.join(sorted(NOT_TRIALS))}, but got {subdir!r}; leave it out "
            "for the number of the trial"
        )
    return str(PurePosixPath(*map(_shortened, path.parts)))


def give_back(directory: Path) -> None:
    """Remove the directory of a trial that leaves no record after all."""
    if (directory / CLAIM).exists() and not (directory / RESULT).exists():
        (directory / CLAIM).unlink()
        if not any(directory.iterdir()):
            directory.rmdir()


def remove_paused(directory: Path, trials: Sequence[FrozenTrial]) -> None:
    """Remove the checkpoints from which pruned trials could have gone on; below the sweep only."""
    for trial in counted(trials):
        own = Path(trial.user_attrs.get(DIRECTORY) or "/").absolute()
        if is_paused(trial) and own.is_relative_to(directory):
            remove(own / LAST)


def _endless(subdir: str, numbered: str) -> Iterator[str]:
    yield subdir
    yield numbered
    yield from (f"{numbered}_{n}" for n in count(2))


def _is_of(directory: Path, trial: Membership, config: str) -> bool:
    """Whether a directory is the trial's already.

    What another trial of that number has finished, in a copy of the study, is not.
    """
    result = result_in(directory)
    if result is None:
        claim = read_object(directory / CLAIM)
        return claim is not None and trial.is_same(membership({STUDY: claim}))
    known, same = membership(result), identity_in(directory, result) in (None, config)
    return same if known is None else known.is_same(trial) and (same or not is_finished(result))


def _claim(directory: Path, trial: Membership) -> bool:
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / RESULT).exists():
        return False
    return create(directory / CLAIM, json.dumps(trial.plain()) + "\n")


def _shortened(name: str) -> str:
    content = name.encode(errors="surrogateescape")
    if len(content) <= _LONGEST:
        return name
    digest = hashlib.sha256(content).hexdigest()[:8]
    return f"{content[:_LONGEST].decode(errors='ignore')}-{digest}"


def _refusal(directory: Path, whose: str, name: str) -> UserError:
    return UserError(
        f"a sweep's directory must belong to one study, but {directory} holds the records of "
        f"{whose}, and the study {name!r} of this command is another; give this sweep another "
        "name=... or hydra.sweep.dir=..., name the storage of the first (hydra.sweeper.storage), "
        "or move that directory away"
    )
