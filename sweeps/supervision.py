"""What the command does while its workers train: look after their trials, pass on interrupts."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

import optuna
from optuna.trial import TrialState

from sweeps.attributes import LEASE, STOP
from sweeps.leases import Watch
from sweeps.plan import Plan
from sweeps.recovery import reclaim

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Supervisor:
    """A thread that gives the trials of dead workers to others, and tells workers to stop.

    Args:
        study: with a storage of its own, since it is used from the thread.
        plan: of the sweep.
        lock: makes a context in which nobody else claims.
    """

    def __init__(
        self, study: optuna.Study, plan: Plan, lock: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._study, self._plan, self._lock = study, plan, lock
        self._watch = Watch()
        self._ended = threading.Event()
        self._told = False
        self.interrupted: signal.Signals | None = None
        self._thread = threading.Thread(target=self._look_on, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._tell_workers()

    def reclaim_from(self, worker: str) -> None:
        """Give the trial of a worker that is known to be dead to another."""
        with self._lock():
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            dead = [t for t in running if (t.user_attrs.get(LEASE) or {}).get("worker") == worker]
            self._reclaim(dead)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first interrupt asks the workers to stop; the second raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, frame: Any) -> None:
            if self.interrupted is not None:
                self._ended.set()  # workers that are killed now have not died by themselves
                raise KeyboardInterrupt
            self.interrupted = signal.Signals(number)
            log.info(
                "stopping: running trials end their epoch and write a checkpoint; "
                "again to stop at once"
            )

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_on(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001
                # The storage may be away for a moment; the workers notice if it stays away.
                log.debug("supervisor: %s", error)

    def _look(self) -> None:
        self._tell_workers()
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        dead = self._watch.abandoned(running)
        if dead:
            with self._lock():
                self._reclaim(dead)

    def _tell_workers(self) -> None:
        if self.interrupted is not None and not self._told:
            self._study.set_user_attr(f"{STOP} {self._plan.session}", True)
            self._told = True

    def _reclaim(self, dead: list[optuna.trial.FrozenTrial]) -> None:
        for number in reclaim(self._study, dead, self._plan.limits.max_retries):
            log.warning("trial %d: its worker died", number)
