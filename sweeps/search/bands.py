"""W&B's early termination by hyperband: what it does is successive halving, by validations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from sweeps.storage.attributes import budgeted

_MOST_BANDS = 100


class BandPruner(BasePruner):
    """Stops a trial that is not in the top 1/eta of all that came as far as it did.

    What W&B documents for `early_terminate` (type hyperband), after wandb/sweeps 0.3: at a band,
    a number of validations, a trial must be better than the quantile 1/eta of what all trials
    had at that band. Bands are at min_iter * eta**k or, given max_iter, at max_iter / eta**k for
    k from 1 to s. A trial is judged at each validation, by the last band that it reached.

    Args:
        min_iter: validations at the first band.
        max_iter: validations at which there is no need to stop a trial any more.
        s: number of bands below max_iter.
        eta: one in how many goes on.
        strict: judge a trial by what it had at the band, else by the best that it ever had.
        best_so_far: the metric is the best value so far, not that of the validation.

    Raises:
        ValueError: there is neither min_iter nor max_iter with s, or they leave no band.
    """

    def __init__(
        self,
        min_iter: int | None = None,
        max_iter: int | None = None,
        s: int | None = None,
        eta: float = 3,
        strict: bool = False,
        best_so_far: bool = False,
    ) -> None:
        if eta <= 1:
            raise ValueError(f"`eta` must be above 1, but got {eta}")
        if max_iter is not None and s is not None:
            bands = [int(max_iter / eta**k) for k in range(s, 0, -1)]
        elif min_iter is not None:
            bands = [int(min_iter * eta**k) for k in range(_MOST_BANDS)]
        else:
            raise ValueError("hyperband needs `min_iter`, or `max_iter` with `s`")
        self.bands = [band for band in bands if band >= 1]
        if not self.bands:
            raise ValueError(f"`max_iter` must be `eta` or more, but got {max_iter} with eta {eta}")
        self._share, self._strict, self._best_so_far = 1 / eta, strict, best_so_far

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        losses = self._losses(study, trial)
        reached = [band for band in self.bands if band <= len(losses)]
        if not reached:
            return False
        band = reached[-1]
        others = [
            self._losses(study, other)
            for other in budgeted(study.get_trials(deepcopy=False))
            if other.number != trial.number
        ]
        there = sorted(history[band - 1] for history in (losses, *others) if len(history) >= band)
        judged = losses[band - 1] if self._strict else min(losses)
        return judged > there[int(self._share * len(there))]

    def _losses(self, study: optuna.Study, trial: FrozenTrial) -> Sequence[float]:
        """What was reported, validation by validation; less is better."""
        reports: Mapping[int, float] = trial.intermediate_values
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        values = [sign * reports[epoch] for epoch in sorted(reports)]
        values = [value for value in values if value == value]  # W&B leaves NaN out
        return list(itertools.accumulate(values, min)) if self._best_so_far else values
