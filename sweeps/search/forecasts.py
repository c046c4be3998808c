"""Where trials that have not ended would end, and how sure that is."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from sweeps.storage.attributes import REPORTS, budgeted, last_report, level_of

Array = NDArray[np.float64]

_MOST = 200  # trials from which a sampler, and a forecast, learns
_NORMAL = 1.4826  # standard deviation of a normal distribution by its median deviation


@dataclass(frozen=True)
class Forecasts:
    """Of the ends of n trials by m objectives.

    Attributes:
        trials: that have ended or reported.
        ends: (n, m), their objectives, or what these would be at the end.
        variance: (n, m), of what is not known of them; 0 where they have ended.
        epochs: (n,), after which each reported last; 0 for one that ended without a report.
    """

    trials: list[FrozenTrial]
    ends: Array
    variance: Array
    epochs: NDArray[np.int64]

    @property
    def trained(self) -> Array:
        """(n,), the share of a whole training that each has behind it."""
        is_ended = np.array([t.state == TrialState.COMPLETE for t in self.trials], bool)
        of_whole = self.epochs[is_ended] if is_ended.any() else self.epochs
        share = np.minimum(1, self.epochs / max([1, *of_whole]))
        return np.where(is_ended, 1, share)


def forecasts(trials: Sequence[FrozenTrial], least: int = 1) -> Forecasts:
    """Of all trials of a search that were trained to their end, or reported.

    Trials differ more in their level than in the shape of their curves. So the end of a trial is
    what it had last, and the steps that others made from there to their end: of each step the
    median, and as its variance that of a normal distribution with the same median deviation, with
    that of half the step as one more observation, since a step that was seen once is not certain.
    The last 200 trials tell the steps.

    Args:
        trials: of the study.
        least: epochs that a trial must have reported, if it has not ended.

    Returns:
        Without those whose last report has what is no number.
    """
    known = [trial for trial in budgeted(trials) if trial.state != TrialState.FAIL]
    ahead = _ahead([_curve(trial) for trial in known[-_MOST:]])
    found = []
    for trial in known:
        last, row = last_report(trial) or (0, [])
        if trial.state == TrialState.COMPLETE:
            found.append((trial, np.array(trial.values), np.zeros(len(trial.values)), last))
        elif last >= least:
            gain, variance = ahead.get(last, (0.0, 0.0))
            end = np.array(row, float) + gain
            found.append((trial, end, np.broadcast_to(variance, end.shape), last))
    finite = [one for one in found if np.isfinite(one[1]).all()]
    return Forecasts(
        [trial for trial, *_ in finite],
        np.array([end for _, end, *_ in finite]),
        np.array([variance for *_, variance, _ in finite]),
        np.array([last for *_, last in finite], np.int64),
    )


def _ahead(curves: Sequence[Mapping[int, Array]]) -> dict[int, tuple[Array, Array]]:
    """What is gained from an epoch to the end, and the variance of that."""
    steps: dict[int, list[Array]] = {}
    for curve in curves:
        known = sorted(epoch for epoch, row in curve.items() if np.isfinite(row).all())
        for before, after in itertools.pairwise(known):
            steps.setdefault(before, []).append(curve[after] - curve[before])
    gain = variance = np.zeros(1)
    ahead = {}
    for epoch in sorted(steps, reverse=True):
        middle = np.median(steps[epoch], axis=0)
        deviation = _NORMAL * np.median(np.abs(steps[epoch] - middle), axis=0)
        seen = len(steps[epoch])
        gain = gain + middle
        variance = variance + (seen * deviation**2 + (middle / 2) ** 2) / (seen + 1)
        ahead[epoch] = gain, variance
    return ahead


def ended_for(
    compare: Sequence[str], trial: FrozenTrial
) -> Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]:
    """What the sampler of one trial sees of a study's: all, as if they had ended as forecast.

    What tells trials apart early is gone for the most part when they end. So of a trial that has
    not ended, the distance to the median of its level counts by the square root of the share of a
    training that it has behind it (about what remains of early differences in the recorded
    trainings of benchmarks/tabular). And the trials of other levels are moved so that their median
    is that of the trial's own: what they teach is where in the space a level is at its best.

    Of more than 200 trials those of the lowest and of the highest numbers are seen, as many of
    each: a Gaussian process takes a time that grows with the cube of their number.

    Args:
        compare: keys whose levels are compared.
        trial: for which the sampler chooses.
    """
    return partial(_as_ended, compare=compare, level=level_of(trial, compare))


def _as_ended(
    trials: Sequence[FrozenTrial], compare: Sequence[str], level: str
) -> list[FrozenTrial]:
    known = forecasts(trials)
    names = [level_of(trial, compare) for trial in known.trials]
    weights = np.sqrt(known.trained)[:, None]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    middles = {name: np.median(known.ends[mine], axis=0) for name, mine in places.items()}
    ends = np.empty_like(known.ends)
    for name, mine in places.items():
        apart = weights[mine] * (known.ends[mine] - middles[name])
        ends[mine] = middles.get(level, middles[name]) + apart
    shown = range(len(names))
    chosen = shown if len(shown) <= _MOST else [*shown[: _MOST // 2], *shown[-_MOST // 2 :]]
    found = []
    for place in chosen:
        ended = copy.copy(known.trials[place])
        ended.state, ended.values = TrialState.COMPLETE, [float(value) for value in ends[place]]
        found.append(ended)
    seen = {trial.number for trial in known.trials}
    rest = [t for t in budgeted(trials) if t.number not in seen]
    return sorted([*found, *rest], key=lambda t: t.number)


def epochs_of(trial: FrozenTrial) -> list[int]:
    """Those that a trial has reported, in order."""
    return sorted(_curve(trial))


def _curve(trial: FrozenTrial) -> dict[int, Array]:
    """The objectives that a trial has reported, by epoch."""
    if trial.intermediate_values:
        return {epoch: np.array([value]) for epoch, value in trial.intermediate_values.items()}
    rows = trial.user_attrs.get(REPORTS) or {}
    return {int(epoch): np.array(row, float) for epoch, row in rows.items()}
