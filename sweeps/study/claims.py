"""What a worker does next: go on with a waiting trial, begin a new one, wait, or stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps import bounds
from sweeps.contest import confirming
from sweeps.contest.levels import Levels
from sweeps.plan import Plan
from sweeps.space.grid import Grid, Remaining
from sweeps.space.points import Values, point_name, point_seed
from sweeps.storage import private
from sweeps.storage.attributes import (
    CONFIRM,
    CONFIRMS,
    LEASE,
    OVERRIDES,
    PHASE,
    POINT,
    REASON,
    RETRIED,
    confirmation_of,
    name_of,
)
from sweeps.study import recovery
from sweeps.study.contests import Claim, is_one_too_many
from sweeps.study.counts import Counts
from sweeps.study.leases import Lease, Watch
from sweeps.study.proposals import proposed, suggest
from sweeps.study.stopping import Stopping
from sweeps.system import REAL, System

log = logging.getLogger(__name__)


class Promoter(Protocol):
    """Whose pruned trials may go on."""

    def promotable(self, study: optuna.Study, left: Collection[str]) -> FrozenTrial | None:
        """The pruned trial that should go on before another begins; None where none should.

        Args:
            study: of the trials.
            left: levels of which more trials will begin; one without a name where none are
                compared.
        """


class Claims:
    """Hands out the trials of a study to one worker.

    Args:
        study: with this worker's sampler.
        plan: of the sweep.
        lock: makes a context in which no other worker of the study claims.
        lease: of the worker; None for the command, which claims nothing.
        system: the machine.
        is_lock_certain: the lock reaches everybody, and lasts as long as whoever has it lives.
        promoter: says which pruned trials go on; None where none does.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        lock: Callable[[], AbstractContextManager[Any]],
        lease: Lease | None = None,
        system: System = REAL,
        *,
        is_lock_certain: bool = False,
        promoter: Promoter | None = None,
    ) -> None:
        self._is_lock_certain = is_lock_certain
        self._study, self._plan, self._system = study, plan, system
        self._lock, self._lease, self._promoter = lock, lease, promoter
        self.counts = Counts(plan.session)
        self.stopping = Stopping(study, plan, self.counts, system, is_command=lease is None)
        self._watch = Watch(study, system)
        self._trials: list[FrozenTrial] = []
        self._remaining = Remaining(Grid(plan.space)) if plan.space.is_finite else None
        self._levels: Levels | None = None
        if plan.compare and not plan.grid:
            assert plan.settings.n_trials is not None
            self._levels = Levels(plan.space, plan.compare, plan.settings.n_trials)
        self._race: tuple[int, confirming.Standing | None] | None = None
        self._refused: set[int] = set()
        self._fruitless: list[tuple[int, TrialState | None]] | None = None

    def next(self) -> Claim | None:
        """The next trial, or None when there is no more to do for this worker.

        It waits while a trial of its command is running, or one whose worker may be gone: it may
        have to take that over.
        """
        assert self._lease is not None
        if self.counts.is_new:
            self._update()  # a large study takes its time, for which nobody should wait
        self._fruitless, began = None, self._system.elapsed()
        while not self._lease.stopping.is_set():
            try:
                claim, is_more_to_come = self._attempt()
            except optuna.exceptions.UpdateFinishedTrialError:
                claim, is_more_to_come = None, True  # it was taken over before it had begun
            if claim is not None:
                return claim
            if not is_more_to_come:
                return None
            waited = self._system.elapsed() - began
            self._pause(min(max(bounds.POLL, waited / 20), bounds.LONGEST_POLL))
        return None

    def _attempt(self) -> tuple[Claim | None, bool]:
        """A claim, and whether there may be one later where there is none."""
        if self._is_as_it_was():
            return None, True
        is_finite = self._plan.space.is_finite
        with self._lock():
            self._look()
            if self.stopping.reason() is not None:
                return None, False
            claim = self._claim()
            if claim is not None and is_finite:
                if self._has_no_point(claim):
                    self._supersede(claim)
                    return None, True
                claim = self._filled(claim)  # before another worker proposes the same
            is_more_to_come = self._is_more_to_come()
        if claim is None:
            self._fruitless = self._states()
            return None, is_more_to_come
        if not self._is_lock_certain and self._is_superseded(claim):
            return None, True
        return claim if is_finite else self._filled(claim), True

    def _is_as_it_was(self) -> bool:
        """Whether there is still nothing to claim, so that nobody need wait for the lock."""
        if self._fruitless is None:
            return False
        self._update()
        is_abandoned = bool(self._watch.look(self._trials))
        is_the_same = self._states() == self._fruitless and not is_abandoned
        return is_the_same and self.stopping.reason() is None and self._is_more_to_come()

    def _states(self) -> list[tuple[int, TrialState | None]]:
        states = [(number, self._trials[number].state) for number in self.counts.open]
        return [(len(self._trials), None), *states]

    def is_work_left(self) -> bool:
        """Whether a worker would find something to do at once."""
        self._update()
        if self.stopping.reason() is not None:
            return False
        is_waiting = any(map(self._can_train, self._waiting()))
        is_left = is_waiting or self._is_search_left() or self._promotable() is not None
        return is_left or bool(self._missing_confirmations())

    def settle(self, should_stop: Callable[[], bool], say: Callable[[str], None]) -> None:
        """Wait, while nothing else is to do, for trials whose worker may be gone.

        Each of them ends, gives a sign of life, or is taken over after `LEASE_TIMEOUT`.

        Args:
            should_stop: asked while it waits.
            say: is told, once, for which trials it waits.
        """
        told = False
        while not (should_stop() or self.is_work_left() or self.stopping.reason()):
            with self._lock():
                self._look()
            unheard = self._unheard()
            if not unheard or self.is_work_left():
                return
            if not told:
                told = True
                say(
                    f"waiting for a sign of life of whoever trains trial {_and(unheard)}, "
                    f"for up to {bounds.LEASE_TIMEOUT + bounds.SUSPICION:.0f} s"
                )
            self._pause(bounds.LOOK)

    def note_race(self) -> None:
        """Keep how the race stands in the study."""
        self._update()
        confirming.note(self._study, self._standing())

    def next_end(self) -> int:
        """The place of a trial that ends now, in the order in which trials end."""
        self._update()
        return self.counts.last_end + 1

    def _update(self) -> None:
        self._trials = self._study.get_trials(deepcopy=False)
        self.counts.update(self._trials)
        if self._remaining is not None:
            self._remaining.update(self.counts.ended_points, self.counts.open_points)

    def _look(self) -> None:
        """Called under the lock: bring the counts up to date, and take over what is abandoned."""
        self._update()
        abandoned = self._watch.look(self._trials)
        taken = recovery.take_over(
            self._study,
            abandoned,
            self._plan.settings.max_retries,
            self._plan.session,
            self._system,
        )
        for number in taken:
            log.warning("trial %d: its worker died", number)
        if self.counts.unretried:
            recovery.retry_taken(self._study, self.counts.unretried)
        if taken or self.counts.unretried:
            self._update()

    def _is_more_to_come(self) -> bool:
        """Whether there may be something to do later, although there is nothing now."""
        # Who races is known when the last trial of the search ends, and who needs another seed
        # when the round does.
        may_follow = self._plan.settings.confirm or self._promoter is not None
        is_racing = bool(may_follow and self.counts.training)
        return is_racing or self._watch.unheard(self._trials, self._plan.session)

    def _unheard(self) -> list[int]:
        watch, session = self._watch, self._plan.session
        return [t.number for t in self._trials if watch.unheard([t], session)]

    def _pause(self, seconds: float) -> None:
        self._system.sleep(seconds * (0.5 + self._system.random()))

    def _claim(self) -> Claim | None:
        """Called under the lock."""
        claim = self._adopted() or self._resumed() or self._promoted()
        if claim is not None:
            return claim
        if self.stopping.no_improvement() is None:
            if self._plan.grid:
                point = self._remaining.first() if self._remaining is not None else None
                if point is not None:
                    return self._begun_at(*point)
            elif self._is_within_budget():
                return self._going_on(self._begun())
        if not self._plan.settings.confirm or self.counts.running:
            return None
        confirming.note(self._study, self._standing())
        missing = self._missing_confirmations()
        for parameters, attributes in missing:
            self._study.enqueue_trial(parameters, user_attrs=attributes)
        self._update()
        return self._resumed() if missing else None

    def _is_search_left(self) -> bool:
        if self.stopping.no_improvement() is not None:
            return False
        if self._plan.grid:
            return self._remaining is not None and self._remaining.count > 0
        return self._is_within_budget()

    def _begun(self) -> optuna.Trial:
        """A trial for which the sampler is to choose, of the level whose turn it is."""
        fixed = self._first_of(self._next_level() or {})
        return private.begin(self._study, {LEASE: self._next_lease()}, fixed=fixed)

    def _first_of(self, level: Values) -> Values:
        """What no sampler chooses for a trial: its level, and what is to be tried first there."""
        for first in self._plan.first.get(name_of(level), ()):
            fixed = {**first, **level}
            if not any(fixed.items() <= _values(trial).items() for trial in self._trials):
                return fixed
        return level

    def _next_level(self) -> Values | None:
        if self._levels is None:
            return None
        return self._levels.next(self._trials, self.counts.ended_points, self.counts.open_points)

    def _begun_at(self, values: Values, seed: int | None) -> Claim:
        """A trial of a point, whole in one call of the storage."""
        attributes = {POINT: point_name(values, seed), LEASE: self._next_lease()}
        known = {d.key: d.distribution for d in self._plan.space.dimensions if d.key in values}
        trial = private.begin(self._study, attributes, values, known)
        return Claim(trial, values, seed, trial.number, has_params=True)

    def _next_lease(self) -> Mapping[str, Any]:
        assert self._lease is not None
        return self._lease.next()

    def _adopted(self) -> Claim | None:
        """A trial that this worker has begun, without having heard that it has."""
        assert self._lease is not None
        for number in self.counts.open:
            trial = self._trials[number]
            is_running = trial.state == TrialState.RUNNING and number not in self._refused
            if is_running and self._lease.is_mine(trial):
                return self._going_on(private.adopt(self._study, trial))
        return None

    def _resumed(self) -> Claim | None:
        """A trial that waits; it has its new owner before it runs."""
        assert self._lease is not None
        refused = False
        for waiting in [*filter(self._can_train, self._waiting())]:
            self._refused.discard(waiting.number)
            try:
                private.set_attribute(self._study, waiting, LEASE, self._lease.next())
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
            trial = private.take(self._study, waiting)
            if trial is not None:
                return self._going_on(trial)
            # Whose it is will say so with its next heartbeat. Until then the trial has the lease of
            # this worker, which must see that it runs, and not leave.
            self._refused.add(waiting.number)
            refused = True
        if refused:
            self._update()
        return None

    def _promoted(self) -> Claim | None:
        """A pruned trial that is among the best after all, going on from its checkpoint."""
        trial = self._promotable()
        if trial is None:
            return None
        recovery.promote(self._study, trial)
        self._update()
        return self._resumed()

    def _promotable(self) -> FrozenTrial | None:
        if self._promoter is None:
            return None
        return self._promoter.promotable(self._study, self._levels_left())

    def _levels_left(self) -> set[str]:
        """Of which a trial may still begin; one without a name where none are compared."""
        if not self._is_search_left():
            return set()
        if self._levels is None:
            return {""}
        return self._levels.left(self._trials, self.counts.ended_points, self.counts.open_points)

    def _waiting(self) -> Iterator[FrozenTrial]:
        for number in self.counts.open:
            if self._trials[number].state == TrialState.WAITING:
                yield self._trials[number]

    def _can_train(self, trial: FrozenTrial) -> bool:
        """Whether this command can make the overrides of a trial, or the trial has them already.

        One that searches fewer keys than an earlier one does not know what the others mean.
        """
        known = {dimension.key for dimension in self._plan.space.dimensions}
        return OVERRIDES in trial.user_attrs or _values(trial).keys() <= known

    def _going_on(self, trial: optuna.Trial) -> Claim:
        frozen = private.known(trial)
        values, point = _values(frozen), frozen.user_attrs.get(POINT)
        first = private.first_of(frozen)
        if point is None:
            return Claim(trial, {}, None, first, is_new=True)
        known = {dimension.key for dimension in self._plan.space.dimensions}
        stored = None if values.keys() <= known else tuple(frozen.user_attrs[OVERRIDES])
        return Claim(trial, values, point_seed(point), first, stored)

    def _is_superseded(self, claim: Claim) -> bool:
        """Whether a trial is one too many, which it ends then."""
        self._update()
        if not is_one_too_many(claim, self._trials, self.counts, self._plan.settings.n_trials):
            return False
        self._supersede(claim)
        return True

    def _supersede(self, claim: Claim) -> None:
        claim.trial.set_user_attr(REASON, "another worker claimed the same at the same time")
        claim.trial.set_user_attr(RETRIED, True)
        private.end(self._study, claim.trial, TrialState.FAIL)

    def _has_no_point(self, claim: Claim) -> bool:
        """Whether others took the last points after a trial was begun, which has none yet."""
        if not claim.is_new:
            return False
        remaining = self._remaining_of(claim.trial)
        return remaining is not None and remaining.count == 0

    def _remaining_of(self, trial: optuna.Trial) -> Remaining | None:
        """The points that are left for a trial which has none yet."""
        fixed = private.known(trial).system_attrs.get(private.FIXED)
        if self._levels is None or not fixed:
            return self._remaining
        return self._levels.remaining_of(fixed) or self._remaining

    def _is_within_budget(self) -> bool:
        assert self._plan.settings.n_trials is not None
        if self.counts.counted >= self._plan.settings.n_trials:
            return False
        if self._levels is not None:
            return self._next_level() is not None
        return self._remaining is None or self._remaining.count > 0

    def _filled(self, claim: Claim) -> Claim:
        """The claim with its parameters stored in the trial; may be repeated where it broke off."""
        space, trial = self._plan.space, claim.trial
        if claim.has_params:
            return claim
        if POINT in private.attributes(trial):
            suggest(trial, space, claim.values)
            return claim
        remaining = self._remaining_of(trial)
        trial, (values, seed) = proposed(self._study, trial, space, self.counts, remaining)
        trial.set_user_attr(POINT, point_name(values, seed))
        suggest(trial, space, values)
        return replace(claim, trial=trial, values=values, seed=seed)

    def _standing(self) -> confirming.Standing | None:
        """Of the race; computed anew when a trial has ended."""
        if not self._plan.settings.confirm:
            return None
        if self._race is None or self._race[0] != self.counts.finished:
            found = confirming.standing(self._study, self._plan)
            self._race = (self.counts.finished, found)
        return self._race[1]

    def _missing_confirmations(self) -> list[tuple[Values, dict[str, Any]]]:
        """What the race needs and nobody has begun: parameters and attributes of the trials."""
        found = self._standing()
        missing = []
        for candidate, seed in found.wanted() if found is not None else ():
            point = point_name(candidate.params, seed)
            if confirmation_of(point) not in self.counts.points:
                attributes = {POINT: point, PHASE: CONFIRM, CONFIRMS: candidate.trial}
                missing.append((dict(candidate.params), attributes))
        return missing


def _values(trial: FrozenTrial) -> Values:
    return {**trial.system_attrs.get(private.FIXED, {}), **trial.params}


def _and(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
