"""Distributions that Optuna has not, by their quantiles."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Any

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
