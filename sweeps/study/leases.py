"""Who trains a trial, and whether they still live.

Optuna's heartbeat works on its relational storages only and never with ask and tell. A lease
works on every storage: the worker's process and a counter that grows every few seconds, kept with
the trial. Whoever watches a trial takes it for abandoned if the process is known to be gone, or
if the counter has not grown for `LEASE_TIMEOUT` of the watcher's own clock, of which only that
time counts in which the watcher has proved that one could write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps import bounds
from sweeps.storage.attributes import LEASE, PROBE, session_of
from sweeps.system import REAL, System

_NAMED = ("worker", "host", "boot", "namespace", "pid", "born")


def holder(
    worker: str, system: System = REAL, command: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """This process, as a lease names it, and that of its command where it works for one."""
    known = {"worker": worker, **system.this_process(), "beat": 0}
    if command is not None:
        known["command"] = {key: command[key] for key in system.this_process()}
    return known


def lease_of(trial: FrozenTrial) -> dict[str, Any]:
    """The lease of a trial; empty where nobody holds it."""
    return trial.user_attrs.get(LEASE) or {}


def owner_of(lease: Mapping[str, Any]) -> str:
    """The process that holds a lease, as no other is called."""
    return ":".join(str(lease.get(key, "")) for key in _NAMED)


class Lease:
    """Keeps a trial's lease alive in a thread, and looks whether to stop.

    Args:
        study: of the trial; its storage is used from the thread.
        worker: name of the worker.
        should_stop: asked at every heartbeat.
        system: the machine.
        command: the process that the worker works for.
    """

    def __init__(
        self,
        study: optuna.Study,
        worker: str,
        should_stop: Callable[[], bool],
        system: System = REAL,
        command: Mapping[str, Any] | None = None,
    ) -> None:
        self._study, self._system = study, system
        self._holder = holder(worker, system, command)
        self._should_stop = should_stop
        self._trial: optuna.Trial | None = None
        self._is_lost = False
        self._writing = system.mutex()
        self._ended, self.stopping = system.event(), system.event()
        if should_stop():  # before it began, as can be where workers queue
            self.stopping.set()
        self._thread = system.start(self._beat_on, "lease")

    @property
    def name(self) -> str:
        """Of this very process, as no other has it."""
        return owner_of(self._holder)

    @property
    def is_lost(self) -> bool:
        """Whether the trial that was taken is another worker's now."""
        return self._is_lost

    def next(self) -> dict[str, Any]:
        """The attribute by which a trial is this worker's."""
        self._holder["beat"] += 1
        return dict(self._holder)

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Whether a trial has the lease of this very process."""
        lease = lease_of(trial)
        return bool(lease) and {**lease, "beat": 0} == {**self._holder, "beat": 0}

    def take(self, trial: optuna.Trial) -> None:
        """Hold a trial from now on."""
        with self._writing:
            self._is_lost = False
            self._trial = trial
            self._beat(trial)

    def drop(self) -> None:
        """Hold no trial; nothing is written about the last one any more."""
        with self._writing:
            self._trial = None

    def end(self) -> None:
        """Beat no more."""
        self._ended.set()
        self._thread.join(timeout=bounds.HEARTBEAT)

    def should_end_trial(self) -> bool:
        """Whether the trial should end with this epoch."""
        return self.stopping.is_set() or self._is_lost

    def _beat_on(self) -> None:
        while not self._ended.wait(bounds.HEARTBEAT):
            try:
                if self._should_stop():
                    self.stopping.set()
                with self._writing:
                    if self._trial is not None and not self._is_lost:
                        self._beat(self._trial)
            except Exception as error:  # noqa: BLE001
                # The storage may be away for a moment; if it stays away, the trial itself will
                # fail on it.
                optuna.logging.get_logger(__name__).debug("no heartbeat: %s", error)

    def _beat(self, trial: optuna.Trial) -> None:
        try:
            trial.set_user_attr(LEASE, self.next())
        except optuna.exceptions.UpdateFinishedTrialError:
            self._is_lost = True


@dataclass
class _Seen:
    lease: dict[str, Any]
    was_heard: bool = False
    unmoved: float = 0.0
    silent: float = 0.0


class Watch:
    """Finds running trials whose worker is gone.

    Args:
        study: whose trials are watched.
        system: the machine.
    """

    def __init__(self, study: optuna.Study, system: System = REAL) -> None:
        self._study, self._system = study, system
        self._seen: dict[int, _Seen] = {}
        self._looked: float | None = None
        self._proved: float | None = None
        self._probes = 0

    def look(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Of the running trials among those given, the ones to take over."""
        running = {t.number: t for t in trials if t.state == TrialState.RUNNING}
        self._compare(running)
        self._prove([seen for seen in self._seen.values() if seen.unmoved > bounds.SUSPICION])
        return [
            trial
            for number, trial in running.items()
            if self._seen[number].silent > bounds.LEASE_TIMEOUT or self._is_gone(trial)
        ]

    def unheard(self, trials: Iterable[FrozenTrial], session: str) -> bool:
        """Whether a running trial may have no worker any more, as far as the looks so far tell.

        Args:
            trials: of the study.
            session: whose trials only the command and its workers look after.
        """
        running = [t for t in trials if t.state == TrialState.RUNNING]
        return any(session_of(t) == session or self._is_unheard(t) for t in running)

    def _is_unheard(self, trial: FrozenTrial) -> bool:
        seen = self._seen.get(trial.number)
        return seen is None or not seen.was_heard or seen.unmoved > bounds.SUSPICION

    def _compare(self, running: dict[int, FrozenTrial]) -> None:
        now = self._system.elapsed()
        gap = 0.0 if self._looked is None else min(now - self._looked, bounds.LONGEST_GAP)
        self._looked = now
        before, self._seen = self._seen, {}
        for number, trial in running.items():
            lease, known = lease_of(trial), before.get(number)
            if known is None:
                self._seen[number] = _Seen(lease)
            elif known.lease != lease:
                self._seen[number] = _Seen(lease, was_heard=True)
            else:
                known.unmoved += gap
                self._seen[number] = known

    def _prove(self, suspects: list[_Seen]) -> None:
        """Count as silence only what lies between two writes of our own, one soon after another."""
        if not suspects:
            self._proved = None
            return
        self._probes += 1
        self._study.set_user_attr(PROBE, self._probes)
        now, before = self._system.elapsed(), self._proved
        self._proved = now
        if before is not None and now - before <= bounds.LONGEST_GAP:
            for seen in suspects:
                seen.silent += now - before

    def _is_gone(self, trial: FrozenTrial) -> bool:
        lease = lease_of(trial)
        return bool(lease) and self._system.is_gone(lease)
