"""Distributions that Optuna has not, drawn by their quantiles at random probabilities."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from experiments.errors import UserError
from sweeps.space import Space

TAIL = 1e-9
"""Probability that is cut off at either end, as Optuna wants bounds: 6 standard deviations."""

Quantile = Callable[[float], Any]
"""From a probability to a value: the inverse of a cumulative distribution function."""


@dataclass(frozen=True)
class Prior:
    """How the values of a dimension are distributed, where that is not as Optuna would draw them.

    Attributes:
        name: of the distribution.
        quantile: a function at the top of a module, or a `partial` of one, since it travels.
    """

    name: str
    quantile: Quantile


class PriorSampler(RandomSampler):
    """Draws each parameter that has a prior from it, and the others as a random sampler does.

    Args:
        sampler: whose random numbers are used.
        priors: by the parameters' names.
    """

    def __init__(self, sampler: RandomSampler, priors: Mapping[str, Prior]) -> None:
        super().__init__()
        self._rng = sampler._rng
        self._priors = priors

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if param_name not in self._priors:
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._priors[param_name].quantile(self._rng.rng.random_sample())


def with_priors(sampler: BaseSampler, space: Space) -> BaseSampler:
    """The sampler, or one that heeds the priors of the space if there are any.

    Raises:
        UserError: there are, but the sampler is not the random one, which alone can heed them.
    """
    priors = {d.key: d.prior for d in space.dimensions if d.prior is not None}
    if not priors:
        return sampler
    if not isinstance(sampler, RandomSampler):
        key, prior = next(iter(priors.items()))
        raise UserError(
            f"`hydra/sweeper/sampler` must be random where `{key}` is drawn from {prior.name}, "
            f"but got {type(sampler).__name__}; choose that, or another distribution"
        )
    return PriorSampler(sampler, priors)


def uniform(low: float, high: float, p: float) -> float:
    """Quantile of the continuous uniform distribution."""
    return low + (high - low) * p


def log_uniform(low: float, high: float, p: float) -> float:
    """Quantile where the logarithm is uniform; the bounds are values, not logarithms."""
    return math.exp(uniform(math.log(low), math.log(high), p))


def normal(mean: float, deviation: float, p: float) -> float:
    """Quantile of the normal distribution, without its tails."""
    return mean + deviation * NormalDist().inv_cdf(_inner(p))


def log_normal(mean: float, deviation: float, p: float) -> float:
    """Quantile where the natural logarithm is normal with that mean and deviation."""
    return math.exp(normal(mean, deviation, p))


def beta(a: float, b: float, p: float) -> float:
    """Quantile of the beta distribution, without its ends."""
    from scipy.special import betaincinv

    return float(betaincinv(a, b, _inner(p)))


def rounded(quantile: Quantile, step: float, p: float) -> float:
    """Quantile of the nearest multiple of `step`; whole if the step is."""
    return multiple(round(quantile(p) / step), step)


def weighted(values: Sequence[Any], weights: Sequence[float], p: float) -> Any:
    """Quantile of a choice: the values in order, each with its probability."""
    cumulative = [math.fsum(weights[: i + 1]) for i in range(len(weights))]
    return values[min(bisect_right(cumulative, p * cumulative[-1]), len(values) - 1)]


def multiple(count: int, step: float) -> float:
    """So many steps, without the rounding errors of a product: 3 of 0.1 are 0.3."""
    if step == int(step):
        return count * int(step)
    return float(count * Decimal(repr(step)))


def _inner(p: float) -> float:
    return min(max(p, TAIL), 1 - TAIL)
