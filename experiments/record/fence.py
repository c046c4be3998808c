"""Who may write a trial's record, where several processes may believe that it is theirs.

A process that was frozen, such as by the lid of a laptop, wakes and goes on as if nothing had been,
while another has long been given its trial. So the directory of a record names its owner, in a file
that whoever takes the trial writes: the number of the trial, which grows each time another
takes it over, and the process. Each file of the record is put in its place under a lock of the
directory, after a look whether the owner is still the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.errors import RecordLockedError, Superseded
from experiments.machine.waits import scaled

OWNER_FILE = ".owner.json"
LOCK_FILE = ".owner.lock"
LOCK_SECONDS = 10.0
"""For so long one waits for another that writes the record, which takes milliseconds."""

_owned: dict[Path, Fence] = {}


@dataclass(frozen=True)
class Owner:
    """Of a record.

    Attributes:
        token: grows each time another process takes the trial over.
        process: that took it.
        study: of the trial. Numbers of two studies do not compare: the record of one that was
            deleted may be taken whatever its token.
    """

    token: int
    process: str
    study: str = ""


class Store(Protocol):
    """Where the owner of a record is kept."""

    def locked(self) -> AbstractContextManager[None]:
        """A context in which nobody else reads or writes it."""

    def read(self) -> Owner | None:
        """Who owns the record; None where nobody has taken it."""

    def write(self, owner: Owner) -> None:
        """Keep another owner."""


class Fence:
    """Keeps those away from a record who lost it.

    Args:
        store: of the record.
        owner: this process.
    """

    def __init__(self, store: Store, owner: Owner) -> None:
        self._store, self._owner = store, owner

    def take(self) -> None:
        """Own the record from now on.

        Raises:
            Superseded: another process has taken the trial over since this one claimed it.
        """
        with self._store.locked():
            known = self._store.read()
            if (
                known is not None
                and known.study == self._owner.study
                and known.token > self._owner.token
            ):
                raise Superseded(f"its record is of {known.process} now")
            if known != self._owner:
                self._store.write(self._owner)

    def is_lost(self) -> bool:
        """Whether the record is another's by now; nobody who lost it gets it back."""
        return self._store.read() != self._owner

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which the record is this process's; brief, since others wait for it.

        Raises:
            Superseded: it is another's.
        """
        with self._store.locked():
            known = self._store.read()
            if known != self._owner:
                who = "nobody" if known is None else known.process
                raise Superseded(f"its record is of {who} now")
            yield


@contextmanager
def owning(directory: Path, owner: Owner) -> Iterator[None]:
    """Take a record, and let its owner, this process, write it only while nobody else has taken it.

    Where there is no such directory, there is nothing to guard.

    Raises:
        Superseded: another process has taken the trial over since this one claimed it.
    """
    directory = directory.absolute()
    if not directory.is_dir():
        yield
        return
    fence = Fence(_Files(directory), owner)
    fence.take()
    _owned[directory] = fence
    try:
        yield
    finally:
        del _owned[directory]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which a file may be changed: at once, unless it is of a record that is owned.

    Raises:
        Superseded: the record is another process's now.
    """
    with ExitStack() as stack:
        for directory, fence in list(_owned.items()):
            if directory in path.absolute().parents:
                stack.enter_context(fence.writing())
        yield


def is_lost(path: Path) -> bool:
    """Whether a file is of a record that was this process's and is another's now.

    For those who write where no lock can be held, such as into a log or to a server.
    """
    return any(
        directory in path.absolute().parents and fence.is_lost()
        for directory, fence in list(_owned.items())
    )


def refuse_lost(path: Path) -> None:
    """Raise `Superseded` for a path of which `is_lost` says so."""
    if is_lost(path):
        raise Superseded(f"{path} is another process's now")


class _Files:
    """A store in the record's directory."""

    def __init__(self, directory: Path) -> None:
        self._owner, self._lock = directory / OWNER_FILE, directory / LOCK_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # where there are no such locks, the look at the owner must do
            yield
            return
        seconds = scaled(LOCK_SECONDS)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            end = time.monotonic() + seconds
            while not _locks(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if time.monotonic() > end:
                    raise RecordLockedError(
                        f"a record must be free within {seconds:g} s, but another process "
                        f"holds {self._lock}; is it suspended?"
                    )
                time.sleep(0.005)
            yield
        finally:
            # Unlocked by name: a process forked meanwhile has a copy of the descriptor.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def read(self) -> Owner | None:
        try:
            content = json.loads(self._owner.read_text(encoding="utf-8"))
            study = str(content.get("study", ""))
            return Owner(int(content["token"]), str(content["process"]), study)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:  # which says nothing about whose it is
            raise RecordLockedError(
                f"a record must say whose it is, but {self._owner} cannot be read: {error}"
            ) from error

    def write(self, owner: Owner) -> None:
        temporary = self._owner.with_name(f"{OWNER_FILE}.{os.getpid()}.part")
        temporary.write_text(json.dumps(vars(owner)) + "\n", encoding="utf-8")
        temporary.replace(self._owner)


def _locks(descriptor: int, how: int) -> bool:
    """Whether a file is locked now; a file system without locks lets all pass."""
    import fcntl

    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
