"""Why no trial should begin although the budget is not spent."""

from __future__ import annotations

import math

import optuna

from sweeps.plan import Plan
from sweeps.results.ranking import last_improvement
from sweeps.storage import private
from sweeps.storage.attributes import OVER_TIME
from sweeps.study.counts import Counts
from sweeps.system import System

_LEAST_FINISHED = 5  # before a rate of failure means anything


class Stopping:
    """The limits of a sweep other than its budget.

    Args:
        study: of the sweep.
        plan: of the command.
        counts: of the study, brought up to date by whoever asks.
        system: the machine.
        is_command: asked by the command itself, whose clock is the one that counts.
    """

    def __init__(
        self, study: optuna.Study, plan: Plan, counts: Counts, system: System, *, is_command: bool
    ) -> None:
        self._study, self._plan, self._counts = study, plan, counts
        self._system, self._is_command = system, is_command
        self._deadline = deadline_of(plan, system)
        self._since: tuple[int, int] | None = None

    def reason(self) -> str | None:
        """Why no trial at all should begin, in words."""
        if self._is_over_time():
            return "the timeout has passed"
        rate, most = (
            self._counts.failure_rate(_LEAST_FINISHED),
            self._plan.settings.max_failure_rate,
        )
        if rate > most:
            return f"{rate:.0%} of the trials failed, more than sweep.max_failure_rate={most:g}"
        return None

    def no_improvement(self) -> str | None:
        """Why no trial of the search should begin, in words; its best may race all the same."""
        most = self._plan.settings.stop_after_no_improvement
        if most is None:
            return None
        if self._since is None or self._since[0] != self._counts.finished:
            found = last_improvement(self._study, self._plan.objectives)
            self._since = (self._counts.finished, found)
        if self._since[1] >= most:
            return f"the last {self._since[1]} trials brought no improvement"
        return None

    def _is_over_time(self) -> bool:
        """Whether the deadline has passed; the workers are told by their command."""
        if self._plan.deadline is None:
            return False
        if self._is_command:
            return self._system.elapsed() >= self._deadline
        return private.is_set(self._study, f"{OVER_TIME} {self._plan.session}")


def deadline_of(plan: Plan, system: System) -> float:
    """When no trial begins any more, by a clock of the command that nobody sets."""
    if plan.deadline is None:
        return math.inf
    return system.elapsed() + plan.deadline - system.utc()
