"""What a worker does next: go on with a waiting trial, begin a new one, or stop."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from sweeps import confirming
from sweeps.attributes import (
    CELL,
    CONFIRM,
    CONFIRMS,
    PHASE,
    REASON,
    RETRIED,
    confirmation_of,
    is_counted,
    point_of,
)
from sweeps.plan import Plan
from sweeps.results import last_improvement
from sweeps.space.dimensions import Dimension
from sweeps.space.grid import Grid, Remaining
from sweeps.space.points import Point, Values, canonical, point_name, point_seed
from sweeps.tally import Tally

_LEAST_FINISHED = 5  # before a rate of failure means anything
_REDRAWS = 20
_POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A trial that this worker, and no other, is to train."""

    trial: optuna.Trial
    values: Values
    seed: int | None
    number: int
    """Of the first trial that this one continues, whose directory it goes on with."""
    is_new: bool = False
    """Whether it was begun without a cell."""

    @property
    def is_confirmation(self) -> bool:
        """Whether it only repeats another with a fresh seed."""
        return self.trial.user_attrs.get(PHASE) == CONFIRM


class Claims:
    """Hands out the trials of a study to one worker.

    Args:
        study: with this worker's sampler.
        plan: of the sweep.
        lock: makes a context in which no other worker of the study claims.
        should_stop: asked before every claim.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        lock: Callable[[], AbstractContextManager[Any]],
        should_stop: Callable[[], bool],
    ) -> None:
        self._study, self._plan = study, plan
        self._lock, self._should_stop = lock, should_stop
        self.tally = Tally(plan.session)
        self._remaining = Remaining(Grid(plan.space)) if plan.space.is_finite else None
        self._race: tuple[int, confirming.Standing | None] | None = None

    def next(self) -> Claim | None:
        """The next trial, or None when there is no more to do for this worker."""
        if self.tally.is_new:
            self._update()  # a large study takes its time, for which nobody should wait
        while not self._should_stop():
            with self._lock():
                self._update()
                if self.stop_reason() is not None:
                    return None
                claim = self._claim()
                if claim is not None and self._plan.space.is_finite:
                    claim = self._filled(claim)  # before another worker proposes the same
                # Who races is known when the last trial of the search ends, and who needs another
                # seed when the round does.
                is_more_to_come = self._plan.limits.confirm and self.tally.training
            if claim is not None:
                if not self._withdrawn(claim):
                    return claim if self._plan.space.is_finite else self._filled(claim)
            elif not is_more_to_come:
                return None
            time.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))
        return None

    def is_work_left(self) -> bool:
        """Whether a worker would find something to do."""
        self._update()
        if self.stop_reason() is not None:
            return False
        return bool(self.tally.waiting or self._is_search_left() or self._missing_confirmations())

    def stop_reason(self) -> str | None:
        """Why no trial should begin although the budget is not spent, in words."""
        limits = self._plan.limits
        if limits.deadline is not None and time.time() >= limits.deadline:
            return "the timeout has passed"
        rate = self.tally.failure_rate(_LEAST_FINISHED)
        if rate > limits.max_failure_rate:
            return (
                f"{rate:.0%} of the trials failed, more than "
                f"sweep.max_failure_rate={limits.max_failure_rate:g}"
            )
        return None

    def patience_reason(self) -> str | None:
        """Why no trial of the search should begin, in words; its best may race all the same."""
        patience = self._plan.limits.stop_after_no_improvement
        if patience is not None:
            since = last_improvement(self._study, self._plan.objectives)
            if since >= patience:
                return f"the last {since} trials brought no improvement"
        return None

    def note_race(self) -> None:
        """Keep how the race stands in the study."""
        self._update()
        confirming.note(self._study, self._standing())

    def _update(self) -> None:
        self.tally.update(self._study.get_trials(deepcopy=False))
        if self._remaining is not None:
            self._remaining.update(self.tally.ended_cells, self.tally.open_cells)

    def _claim(self) -> Claim | None:
        """Called under the lock."""
        if self.tally.waiting:
            return self._resumed()
        if self.patience_reason() is None:
            if self._plan.grid:
                point = self._remaining.first() if self._remaining is not None else None
                if point is not None:
                    return self._begin(*point)
            elif self._is_within_budget():
                trial = self._study.ask()
                if CELL in trial.user_attrs:  # of somebody's who has just put it back
                    return self._going_on(trial)
                return Claim(trial, {}, None, trial.number, is_new=True)
        if not self._plan.limits.confirm or self.tally.running:
            return None
        confirming.note(self._study, self._standing())
        missing = self._missing_confirmations()
        for parameters, attributes in missing:
            self._study.enqueue_trial(parameters, user_attrs=attributes)
        return self._resumed() if missing else None

    def _is_search_left(self) -> bool:
        if self.patience_reason() is not None:
            return False
        if self._plan.grid:
            return self._remaining is not None and self._remaining.count > 0
        return self._is_within_budget()

    def _resumed(self) -> Claim | None:
        """A trial that waits.

        Not by `ask`, which begins a new one if somebody else was faster; that is possible where
        the storage has no lock, or a connection broke that held one.
        """
        trial_id = self._study._pop_waiting_trial_id()
        if trial_id is None:
            self._update()
            return self._claim()
        return self._going_on(optuna.Trial(self._study, trial_id))

    def _going_on(self, trial: optuna.Trial) -> Claim:
        """A claim of a trial that has a cell already."""
        frozen = self._study._storage.get_trial(trial._trial_id)
        values = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
        cell = frozen.user_attrs.get(CELL)
        first = int(frozen.system_attrs.get("failed_trial", trial.number))
        return Claim(trial, values, point_seed(cell) if cell else None, first)

    def _withdrawn(self, claim: Claim) -> bool:
        """End a trial that is one too many, since somebody claimed at the same time.

        Where the lock does not reach everybody, or a server that restarts lets go of it, two may
        begin the last trial of the budget, or the same cell. Numbers are given out one by one, so
        the lower one stays; of two trials that were given their cells after their numbers,
        neither need have seen the other.
        """
        trials = self._study.get_trials(deepcopy=False)
        self.tally.update(trials)
        mine = trials[claim.trial.number]
        own = {mine.number, *mine.system_attrs.get("retry_history", ())}
        rivals = self.tally.holders(point_of(mine)) - own if CELL in mine.user_attrs else ()
        is_taken = any(claim.is_new or number < mine.number for number in rivals)
        limit = self._plan.limits.n_trials
        earlier = self.tally.counted - sum(map(is_counted, trials[mine.number :]))
        if not is_taken and not (claim.is_new and limit is not None and earlier >= limit):
            return False
        claim.trial.set_user_attr(REASON, "another worker claimed the same at the same time")
        claim.trial.set_user_attr(RETRIED, True)
        self._study.tell(claim.trial, state=TrialState.FAIL)
        return True

    def _is_within_budget(self) -> bool:
        assert self._plan.limits.n_trials is not None
        if self.tally.counted >= self._plan.limits.n_trials:
            return False
        return self._remaining is None or self._remaining.count > 0

    def _begin(self, values: Values, seed: int | None) -> Claim | None:
        self._study.enqueue_trial(
            values, user_attrs={CELL: point_name(values, seed)}, skip_if_exists=False
        )
        return self._resumed()

    def _filled(self, claim: Claim) -> Claim:
        """The claim with its parameters stored in the trial."""
        trial = claim.trial
        if CELL in trial.user_attrs:
            for dimension in self._plan.space.dimensions:
                if dimension.key in claim.values:
                    _suggest(trial, dimension)
            return claim
        if self._remaining is not None:
            values, seed = self._untaken_proposal(trial, self._remaining)
        else:
            values = self._plan.space.fill(lambda dimension: _suggest(trial, dimension))
            seed = self._seed_for(trial.number)
        trial.set_user_attr(CELL, point_name(values, seed))
        return replace(claim, values=values, seed=seed)

    def _seed_for(self, number: int) -> int | None:
        seeds = self._plan.space.seeds
        return seeds[number % len(seeds)] if seeds else None

    def _untaken_proposal(self, trial: optuna.Trial, remaining: Remaining) -> Point:
        """What the sampler proposes, drawn again while it is taken: no cell is run twice."""
        space, study = self._plan.space, self._study
        frozen = study._storage.get_trial(trial._trial_id)

        relative = dict(trial.relative_params)

        def draw(dimension: Dimension) -> Any:
            if dimension.key in relative:
                return relative.pop(dimension.key)  # the sampler says it once
            return study.sampler.sample_independent(
                study, frozen, dimension.key, dimension.distribution
            )

        for _ in range(_REDRAWS):
            values = space.fill(draw)
            for seed in space.seeds or (None,):
                if point_name(values, seed) not in self.tally.cells:
                    break
            else:
                continue
            break
        else:
            values, seed = remaining.draw(random.Random(trial.number))
        for dimension in space.dimensions:
            if dimension.key in values:
                _store(trial, dimension, values[dimension.key])
        return values, seed

    def _standing(self) -> confirming.Standing | None:
        """Of the race; computed anew when a trial has ended."""
        if not self._plan.limits.confirm:
            return None
        if self._race is None or self._race[0] != self.tally.finished:
            found = confirming.standing(self._study, self._plan)
            self._race = (self.tally.finished, found)
        return self._race[1]

    def _missing_confirmations(self) -> list[tuple[Values, dict[str, Any]]]:
        """What the race needs and nobody has begun: parameters and attributes of the trials."""
        found = self._standing()
        missing = []
        for contender, seed in found.wanted() if found is not None else ():
            cell = point_name(contender.params, seed)
            if confirmation_of(cell) not in self.tally.cells:
                attributes = {CELL: cell, PHASE: CONFIRM, CONFIRMS: contender.trial}
                missing.append((dict(contender.params), attributes))
        return missing


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    value = trial._suggest(dimension.key, dimension.distribution)
    one = canonical(value, dimension.distribution)
    if one != value:  # samplers multiply a step, where the last digit may differ
        _store(trial, dimension, one)
    return one


def _store(trial: optuna.Trial, dimension: Dimension, value: Any) -> None:
    distribution = dimension.distribution
    internal = distribution.to_internal_repr(value)
    trial.storage.set_trial_param(trial._trial_id, dimension.key, internal, distribution)
