"""What has become of a study's trials, counted once each."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Container, Sequence

from optuna.trial import FrozenTrial, TrialState

from sweeps.storage.attributes import (
    ENDED,
    IDENTITY,
    RETRIED,
    SAME_AS,
    TAKEN,
    is_confirmation,
    is_paused,
    is_superseded,
    point_of,
    session_of,
)
from sweeps.storage.private import history_of


class Counts:
    """Counts that are brought up to date in a time that does not grow with the study.

    Attributes:
        counted: units of the budget that are taken. A trial and its retries are one.
        waiting: trials that nobody trains yet.
        training: trials that somebody trains now.
        open: numbers of the trials that have not ended, in order.
        running: numbers of those that somebody trains, without confirmations.
        points: names of those that are taken.
        ended_points: those of trials that ended, in the order in which they did.
        open_points: those of the others.
        finished: trials that ended, by whomever.
        unretried: numbers of the trials that were taken over and whose clone is missing.
        last_end: the highest place in the order in which trials ended.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._next = 0
        self.open: list[int] = []
        self._replaced: set[int] = set()
        self._done: set[int] = set()
        self.ended_points: dict[str, set[int]] = {}
        self.open_points: dict[str, set[int]] = {}
        self._by_identity: dict[str, int] = {}
        self._finished_here = self._failed_here = 0
        self.counted = self.waiting = self.training = self.finished = self.last_end = 0
        self.running: list[int] = []
        self.unretried: set[int] = set()
        self.points: Container[str] = ()

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the trials of the study, ordered by number."""
        new = range(self._next, len(trials))
        self._next = len(trials)
        for number in new:
            self._replaced.update(history_of(trials[number]))
        still_open: list[int] = []
        self.waiting, self.training, self.running = 0, 0, []
        open_counted = 0
        self.open_points = {}
        for number in [*self.open, *new]:
            trial = trials[number]
            if trial.state.is_finished():
                self._finish(trial)
                continue
            still_open.append(number)
            self.waiting += trial.state == TrialState.WAITING
            self.training += trial.state == TrialState.RUNNING
            if not is_confirmation(trial):
                open_counted += number not in self._replaced
                if trial.state == TrialState.RUNNING:
                    self.running.append(number)
            self.open_points.setdefault(point_of(trial), set()).add(number)
        self.open = still_open
        self._done -= self._replaced
        self.unretried -= self._replaced
        self.counted = len(self._done) + open_counted
        self.points = ChainMap(self.open_points, self.ended_points)

    @property
    def is_new(self) -> bool:
        """Whether no trial has been taken in."""
        return self._next == 0

    def holders(self, point: str) -> set[int]:
        """Numbers of the trials that have the point, without those that count nowhere."""
        found = self.ended_points.get(point, set()) | self.open_points.get(point, set())
        return found - self._replaced

    def duplicate(self, identity: str) -> int | None:
        """Number of the trial of that identity which was completed, or pruned for good."""
        return self._by_identity.get(identity)

    def failure_rate(self, least: int) -> float:
        """Of the trials that this command's workers finished; 0 below the least number."""
        if self._finished_here < least:
            return 0.0
        return self._failed_here / self._finished_here

    def _finish(self, trial: FrozenTrial) -> None:
        attributes = trial.user_attrs
        self.last_end = max(self.last_end, int(attributes.get(ENDED) or 0))
        if is_superseded(trial):
            if attributes[RETRIED] == TAKEN:
                self.unretried.add(trial.number)
            return
        self.finished += 1
        self.ended_points.setdefault(point_of(trial), set()).add(trial.number)
        if session_of(trial) == self._session:
            self._finished_here += 1
            self._failed_here += trial.state == TrialState.FAIL
        if SAME_AS in attributes:
            return
        is_final = trial.state != TrialState.FAIL and not is_paused(trial)
        if is_final and IDENTITY in attributes:
            self._by_identity.setdefault(attributes[IDENTITY], trial.number)
        if not is_confirmation(trial):
            self._done.add(trial.number)
