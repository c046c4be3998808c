"""A worker's way with a trial, from its claim to its end in the study, whatever happens."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import optuna
from optuna.trial import TrialState

from experiments.errors import (
    Interrupted,
    Paused,
    Pruned,
    RecordLockedError,
    Superseded,
    TrialError,
    is_disk_full,
)
from sweeps.storage import private
from sweeps.storage.answers import told
from sweeps.storage.attributes import (
    DIRECTORY,
    ENDED,
    EPOCHS,
    IDENTITY,
    OVERRIDES,
    PAUSED,
    PROMOTED,
    REASON,
    RETRIED,
    SAME_AS,
    SEED,
    SUMMARY,
    last_report,
)
from sweeps.storage.retry import is_away, retry
from sweeps.study import recovery
from sweeps.study.claims import Claims
from sweeps.study.contests import Claim
from sweeps.study.leases import Lease
from sweeps.system import REAL, System

log = logging.getLogger(__name__)

_REASON_CHARACTERS = 1000
_T = TypeVar("_T")

Report = Callable[[int, Sequence[float]], bool]
"""Takes the epoch, counted from 1, and the objectives; says whether to prune the trial."""


class Job(Protocol):
    """A trial that is ready to run."""

    identity: str
    """Of everything that can change its result."""
    directory: str
    """Of its record; empty if it leaves none."""
    epochs: int
    """At most."""
    seed: int

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        """Train and return the objectives, or return those of the record if that is finished.

        Raises:
            Pruned: `report` said so; `Paused` where another run of the job may go on from there.
            Interrupted: `should_stop` said so; another run of the job goes on from there.
            Superseded: the record is another worker's now.
            Exception: the trial failed.
        """

    def pictures(self) -> list[str]:
        """Paths of the pictures that the study should show."""

    def summary(self) -> dict[str, Any]:
        """What the study keeps of the trial, so that an analysis needs no shared disk."""


@dataclass(frozen=True)
class Ports:
    """What a worker is handed, beside its study.

    Attributes:
        prepare: makes the job of a trial from Hydra's overrides and the number of its chain.
        give_back: removes the directory of a trial that leaves no record after all.
        report: tells the study a validation, and says whether to stop the trial.
        reopen: lets the record in a directory go on that was pruned after so many epochs.
        announce: notes the pictures of a trial in the study, and returns what copies them there.
        own: makes a record this worker's alone, while its context lasts: of the directory, the
            number of the trial and the worker's process.
        free_memory: gives back what a failed trial held.
        lock: the study's.
        system: the machine.
    """

    prepare: Callable[[Sequence[str], int], Job]
    give_back: Callable[[str], None]
    report: Callable[[optuna.Trial, int, Sequence[float]], bool]
    announce: Callable[[optuna.Trial, Job], Callable[[], None]]
    own: Callable[[str, int, str], AbstractContextManager[Any]]
    free_memory: Callable[[], None]
    lock: Callable[[], AbstractContextManager[Any]]
    reopen: Callable[[str, int], None] = lambda directory, epochs: None
    system: System = REAL


class _StorageAwayError(Interrupted):
    """The storage was away for too long; the trial goes on when it is back."""


class _JobError(Exception):
    """What a job raised or returned; it costs the trial, however much it looks like the storage's.

    Its message is the reason.
    """


class Worker:
    """Trains trials of a study until there is nothing left to do, or it should stop.

    Args:
        study: with the worker's sampler and pruner.
        claims: of the worker.
        lease: of the worker.
        overrides: of Hydra, for a claim that has none.
        ports: what it works with.
    """

    def __init__(
        self,
        study: optuna.Study,
        claims: Claims,
        lease: Lease,
        overrides: Callable[[Claim], Sequence[str]],
        ports: Ports,
    ) -> None:
        self._study, self._claims, self._lease = study, claims, lease
        self._overrides, self._ports = overrides, ports

    def work(self) -> None:
        """From claim to claim."""
        while (claim := self._retry(self._claims.next)) is not None:
            overrides = list(claim.overrides or self._overrides(claim))
            log.debug("trial %d: %s", claim.trial.number, " ".join(overrides))
            self.train(claim, overrides)

    def train(self, claim: Claim, overrides: Sequence[str]) -> None:
        """From a claim to its end in the study, whatever happens."""
        trial, lease = claim.trial, self._lease
        job: Job | None = None
        try:
            self._retry(partial(lease.take, trial))
            self._go_on_if_ours(trial)
            job = self._of_job(lambda: self._ports.prepare(overrides, claim.number))
            self._retry(partial(self._describe, trial, job, overrides))
            duplicate = self._claims.counts.duplicate(job.identity)
            history = private.history_of(private.known(trial))
            if duplicate is not None and duplicate not in history:
                self._retry(partial(self._copy, trial, duplicate))
                self._ports.give_back(job.directory)
                return
            with ExitStack() as stack:
                own = partial(self._ports.own, job.directory, trial.number, lease.name)
                self._retry(lambda: stack.enter_context(own()))  # it may be locked
                if (epochs := private.attributes(trial).get(PROMOTED)) is not None:
                    self._of_job(lambda: self._ports.reopen(job.directory, epochs))
                run = partial(job.run, partial(self._report, trial), lease.should_end_trial)
                values = self._of_job(lambda: _numbers(run(), len(self._study.directions)))
        except Pruned as pruned:
            if isinstance(pruned, Paused):
                report = last_report(private.read(self._study, trial))
                set_ = partial(trial.set_user_attr, PAUSED, report[0] if report else 0)
                self._retry(set_)
            self._end(trial, job, TrialState.PRUNED, reason=str(pruned))
        except Superseded as error:
            self._leave_or_fail(trial, job, error)
        except _StorageAwayError:
            self._put_back(trial)
        except (Interrupted, KeyboardInterrupt, SystemExit):
            if lease.is_lost:
                self._leave(trial)
                return
            lease.stopping.set()
            self._put_back(trial)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._leave(trial)
        except Exception as error:
            if is_away(error) or is_disk_full(error):
                # Nothing is wrong with the trial. This worker ends, and the trial goes on later.
                self._put_back(trial)
                raise
            log.exception("trial %d failed", trial.number)
            reason = str(error) if isinstance(error, _JobError) else _named(error)
            self._end(trial, job, TrialState.FAIL, reason=reason)
            self._ports.free_memory()
        else:
            self._complete(trial, job, values)

    def _of_job(self, call: Callable[[], _T]) -> _T:
        """What a job gives.

        Raises:
            _JobError: it failed. That a service of its own does not answer is no matter of the
                storage's, for which the trial would wait; nor does it stop its worker by
                `sys.exit`, which Lightning calls where a worker is stopped.
            BaseException: what is no fault of the trial: the worker is stopped, the disk is full,
                the record is locked.
        """
        try:
            return call()
        except (Interrupted, Pruned, RecordLockedError, KeyboardInterrupt, _JobError):
            raise
        except BaseException as error:
            is_stopped = isinstance(error, SystemExit) and self._lease.stopping.is_set()
            if is_stopped or is_disk_full(error):
                raise
            raise _JobError(_named(error)) from error

    def _retry(self, call: Callable[[], Any]) -> Any:
        return retry(call, self._ports.system)

    def _go_on_if_ours(self, trial: optuna.Trial) -> None:
        if self._lease.is_lost:
            raise Superseded(f"trial {trial.number} is another worker's")

    def _leave(self, trial: optuna.Trial) -> None:
        """Write nothing more about a trial that another worker has."""
        self._lease.drop()
        log.warning("trial %d was taken over by another worker", trial.number)

    def _leave_or_fail(self, trial: optuna.Trial, job: Job | None, error: Superseded) -> None:
        """End a trial whose record is another's, although the study says that it is this worker's.

        Whoever takes a trial over tells the study first. So its directory is another trial's as
        well, and to go on with it would end here again.
        """
        current = self._retry(partial(private.read, self._study, trial))
        if current.state != TrialState.RUNNING or not self._lease.is_mine(current):
            self._leave(trial)
            return
        log.error("trial %d failed: %s", trial.number, error)
        self._end(trial, job, TrialState.FAIL, reason=str(error))

    def _put_back(self, trial: optuna.Trial) -> None:
        self._lease.drop()
        self._retry(partial(self._requeue, trial))

    def _requeue(self, trial: optuna.Trial) -> None:
        with self._ports.lock():
            recovery.requeue(self._study, trial, self._lease)

    def _report(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        self._go_on_if_ours(trial)
        try:
            return bool(self._retry(lambda: self._ports.report(trial, epoch, values)))
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise Superseded("another worker goes on with it, as this one was silent") from error
        except Exception as error:
            if not is_away(error):
                raise
            raise _StorageAwayError(f"the storage is away: {told(error)}") from error

    def _describe(self, trial: optuna.Trial, job: Job, overrides: Sequence[str]) -> None:
        known = private.attributes(trial)
        for key, value in (
            (OVERRIDES, list(overrides)),
            (EPOCHS, job.epochs),
            (SEED, job.seed),
            (DIRECTORY, job.directory),
            (IDENTITY, job.identity),
        ):
            if known.get(key) != value:
                trial.set_user_attr(key, value)

    def _copy(self, trial: optuna.Trial, number: int) -> None:
        """End a trial as its duplicate ended, without training it again."""
        duplicate = self._study.get_trials(deepcopy=False)[number]
        self._lease.drop()
        copied = {key: duplicate.user_attrs.get(key) for key in (SUMMARY, DIRECTORY, REASON)}
        complete = duplicate.state == TrialState.COMPLETE
        values = duplicate.values if complete else None
        self._tell(trial, duplicate.state, values, {SAME_AS: number, **copied})

    def _complete(self, trial: optuna.Trial, job: Job, values: Sequence[float]) -> None:
        copy = self._announced(trial, job)
        self._end(trial, job, TrialState.COMPLETE, values)
        try:
            copy()
        except Exception as error:  # noqa: BLE001  # of the disk, or of a store of the user
            log.warning("trial %d: its pictures are not in the study: %s", trial.number, error)

    def _announced(self, trial: optuna.Trial, job: Job) -> Callable[[], None]:
        """What copies the pictures to where optuna-dashboard finds them, once the trial ended."""
        try:
            return self._ports.announce(trial, job)
        except Exception as error:  # noqa: BLE001  # the result is worth more
            log.warning("trial %d: its pictures are not in the study: %s", trial.number, error)
            return lambda: None

    def _end(
        self,
        trial: optuna.Trial,
        job: Job | None,
        state: TrialState,
        values: Sequence[float] | None = None,
        reason: str | None = None,
    ) -> None:
        self._lease.drop()
        attributes = {REASON: reason[:_REASON_CHARACTERS] if reason is not None else None}
        summary = {SUMMARY: self._summary(trial, job)}
        self._retry(partial(self._tell, trial, state, values, {**summary, **attributes}))
        log.debug("trial %d ended: %s %s", trial.number, state.name, values or reason or "")

    def _summary(self, trial: optuna.Trial, job: Job | None) -> dict[str, Any] | None:
        if job is None:
            return None
        try:
            summary = job.summary()
            json.dumps(summary)
        except Exception as error:  # noqa: BLE001  # the result is worth more
            log.warning("trial %d: its summary is not in the study: %s", trial.number, error)
            return None
        return summary

    def _tell(
        self,
        trial: optuna.Trial,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: dict[str, Any],
    ) -> None:
        """End a trial in the study; may be repeated where it broke off.

        Not every storage looks and writes at once, so that a worker which was frozen between the
        two would end a trial that was taken over meanwhile: that needs the lock as well.
        """
        given = {RETRIED: False, **attributes}
        with self._ports.lock():
            current = private.read(self._study, trial)
            if current.state != TrialState.RUNNING or not self._lease.is_mine(current):
                return  # it was told, but the answer was lost; or another worker took it over
            try:
                for key, value in {**given, ENDED: self._claims.next_end()}.items():
                    is_nothing = value is None or value is False  # 0 is a trial's number
                    if not is_nothing or current.user_attrs.get(key):
                        trial.set_user_attr(key, value)
                private.end(self._study, trial, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                log.warning("trial %d was taken over by another worker", trial.number)


def _named(error: BaseException) -> str:
    return str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    """The objectives that a job returns.

    Raises:
        _JobError: they are no numbers, or others than `count`.
    """
    try:
        given = [values] if isinstance(values, str) else list(values)
    except TypeError:  # one objective, as it is
        given = [values]
    if len(given) != count:
        raise _JobError(f"there must be {count} objectives, but the trial gave {given}")
    for value in given:
        try:
            is_number = not math.isnan(float(value))
        except (TypeError, ValueError):
            is_number = False
        if not is_number:
            raise _JobError(f"an objective must be a number, but the trial gave {value!r}")
    return tuple(map(float, given))
