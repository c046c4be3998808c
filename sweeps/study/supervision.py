"""The command's part: rounds of workers, a look at them meanwhile, others in place of the dead."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import PASSING, PassingError, UserError
from sweeps import bounds
from sweeps.plan import Plan
from sweeps.storage.answers import told
from sweeps.storage.attributes import ENDED, OVER_TIME, REPORTS, STOP, is_superseded
from sweeps.storage.retry import is_away, retry
from sweeps.study.claims import Claims
from sweeps.study.leases import Watch, lease_of
from sweeps.study.recovery import requeue_killed, take_over
from sweeps.study.stopping import deadline_of
from sweeps.system import REAL, System

log = logging.getLogger(__name__)


class Supervisor:
    """A thread that gives the trials of lost workers to others, and tells workers to stop.

    Args:
        study: with a storage of its own, since it is used from the thread.
        plan: of the sweep.
        lock: makes a context in which nobody else claims.
        system: the machine.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        lock: Callable[[], AbstractContextManager[Any]],
        system: System = REAL,
    ) -> None:
        self._study, self._plan, self._lock, self._system = study, plan, lock, system
        self._watch = Watch(study, system)
        self._ended = system.event()
        self._told = self._told_time = False
        self._deadline = deadline_of(plan, system)
        self.interrupted: signal.Signals | None = None

    def __enter__(self) -> Supervisor:
        self._thread = self._system.start(self._look_on, "supervisor")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            retry(self._tell_workers, self._system, bounds.ANSWER)
        except Exception as problem:  # noqa: BLE001  # they end with the command in any case
            log.debug("workers were not told to stop: %s", problem)

    def end(self) -> None:
        """Look no more: workers that are killed now have not died by themselves."""
        self._ended.set()

    def worker_died(self, worker: str) -> None:
        """Give the trial of a worker that is known to be dead to another.

        If the storage is away, that is done by whoever looks at the trial next.
        """

        def take() -> None:
            with self._lock():
                running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                self._take_over([t for t in running if lease_of(t).get("worker") == worker])

        try:
            retry(take, self._system)
        except Exception as error:
            if not is_away(error):
                raise
            log.warning("worker %s died while the storage is away: %s", worker, told(error))

    def requeue_killed(self) -> None:
        """Let the trials of killed workers wait, if the storage is there; else the next command
        does it."""

        def requeue() -> None:
            with self._lock():
                requeue_killed(self._study, self._plan.session, self._system)

        try:
            retry(requeue, self._system, bounds.ANSWER)
        except Exception as error:
            if not is_away(error):
                raise
            log.warning("trials were not requeued, since the storage is away: %s", told(error))

    def ended_trials(self) -> int:
        """How many trials were ended by their workers, not for want of one."""
        trials = retry(lambda: self._study.get_trials(deepcopy=False), self._system)
        ended = [t for t in trials if t.state.is_finished() and t.user_attrs.get(ENDED)]
        return sum(not is_superseded(t) for t in ended)

    def _look_on(self) -> None:
        while not self._ended.wait(bounds.LOOK):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001
                # The storage may be away for a moment; the workers notice if it stays away.
                log.debug("supervisor: %s", error)

    def _look(self) -> None:
        self._tell_workers()
        self._tell_time()
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        abandoned = self._watch.look(running)
        if abandoned:
            with self._lock():
                self._take_over(abandoned)

    def _take_over(self, trials: list[FrozenTrial]) -> None:
        retries, session = self._plan.settings.max_retries, self._plan.session
        for number in take_over(self._study, trials, retries, session, self._system):
            log.warning("trial %d: its worker died", number)

    def _tell_time(self) -> None:
        """Machines' clocks differ; that of the command counts."""
        if not self._told_time and self._system.elapsed() >= self._deadline:
            self._study.set_user_attr(f"{OVER_TIME} {self._plan.session}", True)
            self._told_time = True

    def _tell_workers(self) -> None:
        if self.interrupted is not None and not self._told:
            self._study.set_user_attr(f"{STOP} {self._plan.session}", True)
            self._told = True


class Handle(Protocol):
    """A worker's process, as its parent has it."""

    @property
    def exitcode(self) -> int | None: ...
    def kill(self) -> None: ...
    def join(self) -> None: ...


class Pool:
    """The workers of a command that are processes of this machine.

    Args:
        start: starts the worker of an index.
        wait: returns when one of them has ended, or after a second.
        is_stopped: whether a process does not run, though nobody has ended it.
        system: the machine.
    """

    def __init__(
        self,
        start: Callable[[int], Handle],
        wait: Callable[[Collection[Any]], None],
        is_stopped: Callable[[Any], bool],
        system: System = REAL,
    ) -> None:
        self._start, self._wait, self._is_stopped = start, wait, is_stopped
        self._system = system
        self._running: dict[int, Handle] = {}
        self._stopped: dict[int, float] = {}
        self._looked = system.elapsed()

    def run(
        self,
        count: int,
        *,
        died: Callable[[int], bool],
        ended_trials: Callable[[], int],
        describe: Callable[[int, int | None], str],
    ) -> None:
        """Start workers and wait for their end.

        Args:
            count: of workers.
            died: called with the index of a worker that was killed or broke; says whether to
                start another in its place.
            ended_trials: how many trials workers have ended so far.
            describe: what is said of the last worker that died, from its index and exit code.

        Raises:
            UserError: workers die one after another, and no trial ends between.
        """
        deaths, ended = 0, ended_trials()
        missing = list(range(count))
        while missing or self._running:
            died_now = self._started(missing)
            if self._running:
                self._wait(self._running.values())
            elif died_now:
                self._system.sleep(bounds.LOOK)
            self._end_stopped()
            missing = []
            for index, code in [*died_now, *self._ended()]:
                if code == 0:
                    continue
                again = died(index)
                before, ended = ended, ended_trials()
                # That trial may have ended after this death, while the storage took its time.
                deaths = 0 if ended > before else deaths + 1
                if deaths > bounds.DEATHS_IN_A_ROW * count:
                    self.kill()
                    # None: for want of memory, processes or space.
                    kind = PassingError if code in (None, PASSING) else UserError
                    raise kind(
                        f"workers must live until a trial ends, but {deaths} in a row did not; "
                        f"{describe(index, code)}"
                    )
                if again:
                    missing.append(index)

    def _started(self, indices: Iterable[int]) -> list[tuple[int, None]]:
        """Start workers; those that cannot be started have died."""
        failed: list[tuple[int, None]] = []
        for index in indices:
            try:
                self._running[index] = self._start(index)
            except OSError as error:  # no memory, no process, no space for its log
                log.warning("worker %d cannot be started: %s", index, error)
                failed.append((index, None))
        return failed

    def _ended(self) -> list[tuple[int, int]]:
        """Indices and exit codes of the workers that have ended since the last call."""
        ended = [(i, p.exitcode) for i, p in self._running.items() if p.exitcode is not None]
        for index, _ in ended:
            del self._running[index]
            self._stopped.pop(index, None)
        return ended

    def kill(self) -> None:
        """End all workers at once."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.join()
        self._running = {}

    def _end_stopped(self) -> None:
        """Kill workers that are stopped for longer than a trial waits; others have their trials."""
        now = self._system.elapsed()
        gap, self._looked = min(now - self._looked, bounds.LONGEST_GAP), now
        for index, process in self._running.items():
            if not self._is_stopped(process):
                self._stopped.pop(index, None)
                continue
            self._stopped[index] = self._stopped.get(index, 0.0) + gap
            if self._stopped[index] > bounds.LEASE_TIMEOUT:
                log.warning("worker %d is stopped, and is ended", index)
                process.kill()


def run_rounds(
    claims: Claims,
    launch: Callable[[], None],
    progress: Callable[[], int],
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
    system: System = REAL,
) -> bool:
    """Launch workers, round after round, until there is nothing left to do.

    One round is enough unless workers die.

    Args:
        claims: of the command.
        launch: starts a round of workers, and returns when all have ended.
        progress: grows with what the workers do.
        should_stop: whether the command was interrupted.
        say: tells the user what it waits for.
        system: the machine.

    Returns:
        False if workers get on with nothing, though there is something to do.
    """
    fruitless = 0
    while not should_stop():
        retry(lambda: claims.settle(should_stop, say), system)
        if should_stop() or not retry(claims.is_work_left, system):
            return True
        before = retry(progress, system)
        launch()
        fruitless = 0 if retry(progress, system) > before else fruitless + 1
        if fruitless == bounds.DEATHS_IN_A_ROW:
            return False
    return True


def progress_of(study: optuna.Study) -> int:
    """Grows with each trial that ends and each epoch that is reported."""
    trials = study.get_trials(deepcopy=False)
    return sum(t.state.is_finished() for t in trials) + sum(map(_last_epoch, trials))


def _last_epoch(trial: FrozenTrial) -> int:
    reports = trial.user_attrs.get(REPORTS) or {}
    return max([trial.last_step or 0, *map(int, reports)])
