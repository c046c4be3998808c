"""How far a sweep has come, read from its study again and again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.results.configurations import Configuration
from sweeps.results.ranking import front
from sweeps.space.grid import Grid
from sweeps.storage.attributes import (
    EPOCHS,
    SAME_AS,
    counted,
    is_confirmation,
    last_report,
    point_of,
)

_RECENT = 50  # trials whose time predicts that of the next
_LATELY = 10  # reads over which the number of workers is judged


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        name: of the study.
        states: how many trials of the search are in which state; of a grid, how many points.
        total: how many there will be, of this command and of earlier ones; None if only time
            limits it.
        confirmations: how many reruns of the best configurations have ended, and how many exist.
        running: trials, by number.
        ended: those that ended since the read before, in that order.
        front: the best configuration, or the Pareto front, best first.
        seconds_left: an estimate until the budget is spent; None if nothing is known yet.
    """

    name: str
    states: Counter[TrialState]
    total: int | None
    confirmations: tuple[int, int]
    running: Sequence[FrozenTrial]
    ended: Sequence[FrozenTrial]
    front: Sequence[Configuration]
    seconds_left: float | None

    @property
    def finished(self) -> int:
        """Trials of the search that were completed, pruned or failed."""
        return sum(count for state, count in self.states.items() if state.is_finished())


class Progress:
    """Reads a study and remembers what it has seen, so that a read of 10,000 trials is cheap.

    Args:
        names: of the objectives.
        budget: how many trials the search may make; None if only time limits it.
        grid: each of whose points counts once, whoever trains it and however often; None of a
            search.
    """

    def __init__(self, names: Sequence[str], budget: int | None, grid: Grid | None = None) -> None:
        self._names = names
        self._budget = budget
        self._grid = grid
        self._ended: set[int] | None = None
        self._front: Sequence[Configuration] = ()
        self._front_is_old, self._next_front = False, 0.0
        self._durations: deque[float] = deque(maxlen=_RECENT)
        self._parallel: deque[int] = deque(maxlen=_LATELY)

    def read(self, study: optuna.Study) -> Snapshot:
        """The state now. What had ended before the first read is counted but not told."""
        name, trials = study.study_name, counted(study.get_trials(deepcopy=False))
        ended = self._newly_ended(study, trials)
        running = [t for t in trials if t.state == TrialState.RUNNING]
        states, total = self._states([t for t in trials if self.counts(t)])
        confirmations = [t.state.is_finished() for t in trials if is_confirmation(t)]
        return Snapshot(
            name=name,
            states=states,
            total=total,
            confirmations=(sum(confirmations), len(confirmations)),
            running=running,
            ended=ended,
            front=self._front,
            seconds_left=self._seconds_left(running, states, total),
        )

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether the trial is one of those that `Snapshot.finished` counts."""
        is_copy = self._grid is None and SAME_AS in trial.user_attrs
        return not is_confirmation(trial) and not is_copy

    def _states(self, search: Sequence[FrozenTrial]) -> tuple[Counter[TrialState], int | None]:
        """States of the search's trials, or of a grid's points; and how many there will be."""
        if self._grid is None:
            total = None if self._budget is None else max(self._budget, len(search))
            return Counter(trial.state for trial in search), total
        points = {point_of(trial): trial.state for trial in search}
        # An earlier command's grid may have had other points.
        others = sum(self._grid.number_of(name) is None for name in points)
        return Counter(points.values()), self._grid.size + others

    def _newly_ended(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        known = self._ended or set()
        ended = [t for t in trials if t.state.is_finished() and t.number not in known]
        ended.sort(key=lambda t: (t.datetime_complete or datetime.max, t.number))
        self._front_is_old |= any(trial.state == TrialState.COMPLETE for trial in ended)
        if self._front_is_old and time.monotonic() >= self._next_front:
            self._front, self._front_is_old = front(study, self._names), False
            self._next_front = time.monotonic() + _pause(len(trials))
        # Only now that nothing can fail any more: else their lines would be lost.
        first = self._ended is None
        self._ended = known | {trial.number for trial in ended}
        # A trial that fails often does so at once, which tells nothing of the others.
        trained = [t for t in ended if t.state != TrialState.FAIL]
        self._durations.extend(t.duration.total_seconds() for t in trained if t.duration)
        return [] if first else ended

    def _seconds_left(
        self, running: Sequence[FrozenTrial], states: Counter[TrialState], total: int | None
    ) -> float | None:
        self._parallel.append(len(running))
        if total is None:
            return None
        each = self._seconds_each(running)
        if each is None:
            return None
        begun = sum(states.values()) - states[TrialState.WAITING]
        shares = [1 - share_done(trial) for trial in running]
        work = max(0, total - begun) + sum(shares)
        # Between two trials a worker seems not to be there.
        workers = max(1, *self._parallel)
        return each * max(work / workers, *shares, 0.0)

    def _seconds_each(self, running: Sequence[FrozenTrial]) -> float | None:
        """What a trial takes: by the last that ended, else by how far the running ones are."""
        if self._durations:
            return sum(self._durations) / len(self._durations)
        now = datetime.now()
        guesses = [
            (now - trial.datetime_start).total_seconds() / share_done(trial)
            for trial in running
            if trial.datetime_start and share_done(trial) > 0
        ]
        return max(0.0, *guesses) if guesses else None


def _pause(trials: int) -> float:
    """Seconds between two looks for the best, which takes 0.4 s of a core with 10,000 trials."""
    return trials / 1000 if trials > 1000 else 0.0


def share_done(trial: FrozenTrial) -> float:
    """How much of its epochs a running trial has done, in [0, 1]; 0 if that is unknown."""
    report, epochs = last_report(trial), trial.user_attrs.get(EPOCHS)
    return min(1.0, report[0] / epochs) if report and epochs else 0.0
