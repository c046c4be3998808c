"""Optuna's storage in memory, behind a connection that may break, and a disk that may be full."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from experiments.errors import RecordLockedError
from experiments.record.fence import Fence, Owner
from sweeps.bounds import RECORD_LOCK_WAIT, STORAGE_CALL
from tests.simulation.world import Lock, Process, World

SLOW = 2.0
"""Seconds that a call of a slow server takes at most."""
RECORD_IS_LOCKED: type[Exception] = RecordLockedError
_EPOCH = datetime(2026, 1, 1)
_WRITES = {
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr",
    "create_new_trial", "set_trial_param", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
}  # fmt: skip
_READS = {
    "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
    "get_study_user_attrs", "get_study_system_attrs", "get_all_studies", "get_trial",
    "get_all_trials", "get_trial_id_from_study_id_trial_number", "get_trial_number_from_id",
    "get_trial_param", "get_n_trials", "get_best_trial", "get_trial_params",
    "get_trial_user_attrs", "get_trial_system_attrs", "check_trial_is_updatable",
}  # fmt: skip


class Server:
    """The one storage of all.

    Attributes:
        away_until: nobody reads or writes before.
        locked_until: nobody writes before.
        deaf_until: before, some writes are done and the answer is lost.
        slow_until: before, a write takes up to two seconds.
        writable: seconds so far in which everybody could write.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = InMemoryStorage()
        self.away_until = self.locked_until = self.deaf_until = self.slow_until = 0.0
        self.listeners: list[Callable[[Process, str, tuple[Any, ...], Any], None]] = []
        self._unwritable: list[tuple[float, float]] = []

    def be_away(self, seconds: float) -> None:
        self.away_until = max(self.away_until, self.world.now + seconds)
        self._unwritable.append((self.world.now, self.away_until))

    def be_locked(self, seconds: float) -> None:
        self.locked_until = max(self.locked_until, self.world.now + seconds)
        self._unwritable.append((self.world.now, self.locked_until))

    def writable(self, since: float) -> float:
        """Seconds since then in which anybody could write."""
        total, last = 0.0, since
        for begin, end in sorted(self._unwritable):
            total += max(0.0, min(begin, self.world.now) - last)
            last = max(last, min(end, self.world.now))
        return total + max(0.0, self.world.now - last)


class Connection(BaseStorage):
    """A process's view of the server: each call may take its time, fail, or be done unheard."""

    def __init__(self, server: Server, process: Process) -> None:
        self._server, self._process = server, process

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        server, world = self._server, self._server.world
        is_write = name in _WRITES
        if is_write or world.random.random() < 0.1:
            longest = SLOW if server.slow_until > world.now else 0.02
            world.pause(0.001 + longest * world.random.random())
        world.current  # noqa: B018  # the dead call nobody
        if server.away_until > world.now:
            world.pause(world.random.random())
            raise optuna.exceptions.StorageInternalError("the server is away")
        if is_write and server.locked_until > world.now:
            world.pause(min(STORAGE_CALL, server.locked_until - world.now))
            if server.locked_until > world.now:
                raise optuna.exceptions.StorageInternalError("database is locked")
        if name == "set_trial_param":
            self._refuse_second(*args)
        found = getattr(server.memory, name)(*args, **kwargs)
        if is_write:
            if name == "set_trial_state_values":
                self._stamp(*args)
            for listener in server.listeners:
                listener(self._process, name, args, found)
            if server.deaf_until > world.now and world.random.random() < 0.3:
                raise optuna.exceptions.StorageInternalError("the answer was lost")
        return found

    def _refuse_second(self, trial_id: int, name: str, *_: Any) -> None:
        """As a relational database does, for which it is a unique key."""
        trial = self._server.memory.get_trial(trial_id)
        if name in trial.params and not trial.state.is_finished():
            raise RuntimeError(f"the parameter {name} of trial {trial.number} is set")

    def _stamp(self, trial_id: int, state: TrialState, *_: Any) -> None:
        """The end of a trial in the local time of whoever ended it, as Optuna has it."""
        if state.is_finished():
            moment = self._server.world.now + self._process.machine.clock
            trial = self._server.memory.get_trial(trial_id)
            trial.datetime_complete = _EPOCH + timedelta(seconds=moment)


def _method(name: str) -> Callable[..., Any]:
    def method(self: Connection, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, *args, **kwargs)

    return method


for _name in _WRITES | _READS:
    setattr(Connection, _name, _method(_name))
Connection.__abstractmethods__ = frozenset()


def connect(server: Server, process: Process) -> BaseStorage:
    """A connection, of which each method is made above."""
    kind: Any = Connection
    connection: BaseStorage = kind(server, process)
    return connection


@dataclass
class Record:
    """What a trial leaves on the disk: files that are written one after another.

    Attributes:
        lock: of whoever writes a file of it.
        owner: in the file that says so.
        status: of result.json, with `values`.
        epochs: of the checkpoint.
    """

    lock: Lock
    owner: Owner | None = None
    status: str | None = None
    epochs: int = 0
    values: tuple[float, ...] = ()
    writers: list[Owner] = field(default_factory=list)
    finished: int = 0
    faults: list[str] = field(default_factory=list)


ENDED = ("completed", "pruned", "paused")


class Disk:
    """The records of all trials, on a disk that all machines share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.records: dict[str, Record] = {}
        self.full_until = 0.0
        self.freeze_writer: float | None = None
        world.has_record = lambda name: self.record(name).status in ENDED

    def record(self, directory: str) -> Record:
        if directory not in self.records:
            lock = Lock(self.world, RECORD_LOCK_WAIT, RECORD_IS_LOCKED)
            self.records[directory] = Record(lock)
        return self.records[directory]

    def freeze(self, process: Process) -> None:
        """Freeze whoever writes, if that was asked for."""
        if self.freeze_writer is not None:
            seconds, self.freeze_writer = self.freeze_writer, None
            self.world.freeze(process, seconds)

    def check_space(self) -> None:
        if self.full_until > self.world.now:
            raise OSError(errno.ENOSPC, "No space left on device")


class Shelf:
    """Where the owner of a record is kept, as `experiments.record.fence` wants it."""

    def __init__(self, disk: Disk, directory: str, process: Process) -> None:
        self._disk, self._record, self._process = disk, disk.record(directory), process

    @contextmanager
    def locked(self) -> Iterator[None]:
        world = self._disk.world
        with self._record.lock:
            yield
            self._disk.freeze(self._process)  # between two files
            if world.random.random() < 0.2 or self._process.is_frozen:
                world.pause(0.01 * world.random.random())

    def read(self) -> Owner | None:
        return self._record.owner

    def write(self, owner: Owner) -> None:
        self._disk.check_space()
        self._record.owner = owner


class Pen:
    """Writes a record for one owner."""

    def __init__(self, disk: Disk, directory: str, owner: Owner, process: Process) -> None:
        self._disk, self._record, self._owner = disk, disk.record(directory), owner
        self._process = process
        self.fence = Fence(Shelf(disk, directory, process), owner)

    def write(self, **changes: Any) -> None:
        """As `Record` of experiments does: whole, or not at all."""
        world = self._disk.world
        world.pause(0.001 + 0.01 * world.random.random())
        self._disk.check_space()
        with self.fence.writing():
            self._disk.freeze(self._process)  # between the look at the owner and the write
            if world.random.random() < 0.2 or self._process.is_frozen:
                world.pause(0.01 * world.random.random())
            record, owner = self._record, self._owner
            if record.status in ("completed", "pruned"):
                record.faults.append(f"{owner} writes {changes} over a finished record")
            if any(writer.token > owner.token for writer in record.writers):
                record.faults.append(f"{owner} writes {changes} after {record.writers[-1]}")
            if owner not in record.writers:
                record.writers.append(owner)
            vars(record).update(changes)
            record.finished += changes.get("status") in ("completed", "pruned")
