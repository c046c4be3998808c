"""Which trials go on: those whose forecast end is among the best of their level."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.results.ranking import as_losses
from sweeps.search.forecasts import epochs_of, forecasts
from sweeps.storage import private
from sweeps.storage.attributes import budgeted, is_paused, level_of

_HOPE = 2  # standard deviations of a forecast

Array = NDArray[np.float64]


class Halving:
    """Asynchronous successive halving by forecast ends, for one objective or several.

    A trial is judged at its first report from `min_resource` epochs on, and each time it has twice
    as many. It is compared with all trials of its level that have come so far, by where each would
    end: of one that has ended that is what it has, and of the others what they had last and what
    others gained from there (see `sweeps.search.forecasts`). If it is among the best one in
    `reduction_factor`, of which each later time half as many, but always the best, it goes on. Else
    it is pruned, but for now: its checkpoint stays, and it is promoted when it is among the best
    after all, since those that came later are worse, or what was better has disappointed. When no
    more trials of its level will begin and none trains, those are promoted that may still become
    the best.

    This is ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm
    2) with forecasts in place of the ranks at a rung, as freeze-thaw search has them (Swersky et
    al. 2014, section 4), so that nobody waits for others to reach its rung. Several objectives are
    compared by Pareto rank: how many lie on better fronts.

    Args:
        min_resource: epochs after which a trial is judged first.
        reduction_factor: one in how many goes on.
        compare: keys whose levels are compared, each with a halving of its own.

    Raises:
        ValueError: `min_resource` is below 1 or `reduction_factor` below 2.
    """

    def __init__(
        self, min_resource: int, reduction_factor: int = 3, compare: Sequence[str] = ()
    ) -> None:
        if min_resource < 1:
            raise ValueError(f"`min_resource` must be 1 epoch or more, but got {min_resource}")
        if reduction_factor < 2:
            raise ValueError(f"`reduction_factor` must be 2 or more, but got {reduction_factor}")
        self._first, self._factor = min_resource, reduction_factor
        self._compare = tuple(compare)

    def should_prune(self, study: optuna.Study, number: int, epoch: int) -> bool:
        """Whether a trial should stop, for now, after a validation that it has reported.

        Args:
            study: of the trial.
            number: of the trial.
            epoch: of the validation, counted from 1.
        """
        trials = study.get_trials(deepcopy=False)
        earlier = [reported for reported in epochs_of(trials[number]) if reported < epoch]
        if self._rung(epoch) == self._rung(max(earlier, default=0)):
            return False
        for standing in self._standings(trials, study.directions):
            if number in standing.numbers:
                place = standing.numbers.index(number)
                return bool(standing.better[place] >= self._places(standing, self._rung(epoch)))
        return True  # what it reports are no numbers

    def promotable(self, study: optuna.Study, left: Collection[str]) -> FrozenTrial | None:
        """The pruned trial that should go on before another begins; None where none should.

        Args:
            study: of the trials.
            left: levels of which more trials will begin; one without a name where none are
                compared.

        Returns:
            Of several that with the best forecast.
        """
        trials = study.get_trials(deepcopy=False)
        if not any(map(is_paused, trials)):
            return None
        at_work = {
            level_of(t, self._compare) for t in budgeted(trials) if not t.state.is_finished()
        }
        found = []
        for standing in self._standings(trials, study.directions):
            is_over = standing.level not in left and standing.level not in at_work
            for place, number in enumerate(standing.numbers):
                if not is_paused(trials[number]):
                    continue
                rung = self._rung(standing.epochs[place])
                is_good = standing.better[place] < self._places(standing, rung)
                if is_good or (is_over and standing.may_lead[place]):
                    found.append((number, standing.losses[place]))
        if not found:
            return None
        ranks = private.pareto_ranks(np.array([losses for _, losses in found]))
        return trials[found[int(np.argmin(ranks))][0]]

    def _places(self, standing: _Standing, rung: int) -> int:
        """How many go on from a rung, the first of which is 1."""
        count = len(standing.numbers) // (self._factor << (rung - 1))
        return max(count, 1) if rung > 1 else count

    def _rung(self, epoch: int) -> int:
        """How many rungs are reached: 0 before the first."""
        return (int(epoch) // self._first).bit_length()

    def _standings(
        self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
    ) -> Iterator[_Standing]:
        known = forecasts(trials, self._first)
        if not known.trials:
            return
        levels = [level_of(trial, self._compare) for trial in known.trials]
        losses = as_losses(known.ends.tolist(), directions)
        at_best = losses - _HOPE * np.sqrt(known.variance)
        for level in dict.fromkeys(levels):
            mine = [place for place, name in enumerate(levels) if name == level]
            ranks = private.pareto_ranks(losses[mine])
            is_ended = [known.trials[place].state == TrialState.COMPLETE for place in mine]
            ended = losses[mine][is_ended]
            front = ended[np.equal(private.pareto_ranks(ended), 0)] if len(ended) else ended
            is_behind = (front[:, None, :] <= at_best[mine][None, :, :]).all(-1).any(0)
            yield _Standing(
                level,
                [known.trials[place].number for place in mine],
                known.epochs[mine],
                losses[mine],
                np.searchsorted(np.sort(ranks), ranks),
                np.logical_not(is_behind) if len(ended) else np.equal(ranks, 0),
            )


@dataclass(frozen=True)
class _Standing:
    """Of a level's trials: where they would end, lower is better.

    Attributes:
        level: its name.
        numbers: of the trials.
        epochs: (n,), after which each reported last.
        losses: (n, m)
        better: (n,), how many lie on better fronts.
        may_lead: (n,), whether one may still end better than all that have ended, if its forecast
            is two standard deviations too low; before any has, whether it is the best.
    """

    level: str
    numbers: list[int]
    epochs: NDArray[np.int64]
    losses: Array
    better: NDArray[np.int64]
    may_lead: NDArray[np.bool_]
