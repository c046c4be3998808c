"""Whether two configurations differ, and what many such tests say together."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.estimates import (
    Array,
    Part,
    as_scores,
    as_values,
    check_level,
    half_width,
    variance_of_mean,
)

_LEAST_P = 1e-30  # nobody needs to know it better


class Difference(NamedTuple):
    """A difference of means, a - b.

    Attributes:
        value: estimated.
        low: of its confidence interval.
        high: of its confidence interval.
        p: two-sided, of no difference; NaN, as is the interval, where seeds are missing.
    """

    value: float
    low: float
    high: float
    p: float


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    """Whether a and b differ, for new seeds and new images, from scores of the same images.

    The variance of the difference of means is at most s2(seed means of a)/S_a +
    s2(seed means of b)/S_b + s2(differences, image by image, of the means over seeds)/N: what is
    hard in an image is hard for both and cancels, which is why the images are paired. Noise that
    is neither a seed's nor an image's counts twice, so the test is conservative. Seeds are not
    paired: the same number starts the same weights and order of images, but trainings under
    different losses soon have nothing else in common. The seeds are weighed as by Welch, and with
    the images as in `mean_interval`; p is 1 less the level of the interval that ends at 0.

    Args:
        a: scores (S_a, N).
        b: scores (S_b, N).
        level: of the interval.

    Returns:
        The difference; p and interval are NaN with one seed of either.

    Raises:
        ValueError: the shapes are not (S, N), or the images are not the same number.
    """
    a, b = as_scores(a), as_scores(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"two configurations are compared on the same images, but got {a.shape[1]} scores a "
            f"seed of one and {b.shape[1]} of the other"
        )
    by_image = a.mean(axis=0) - b.mean(axis=0)
    parts = [_of_seeds(a.mean(axis=1), b.mean(axis=1)), variance_of_mean(by_image)]
    return _tested(float(by_image.mean()), parts, level)


def welch_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    """Whether two samples of one value a seed differ (Welch 1947): SciPy's `ttest_ind`.

    Not paired by seed, for the reason given at `paired_difference`; pairing would halve the
    degrees of freedom for little in return.

    Args:
        a: values (S_a,).
        b: values (S_b,).
        level: of the interval.

    Returns:
        The difference; p and interval are NaN with one seed of either.

    Raises:
        ValueError: the shapes are not (S,).
    """
    a, b = as_values(a), as_values(b)
    return _tested(float(a.mean() - b.mean()), [_of_seeds(a, b)], level)


def holm(p: ArrayLike) -> Array:
    """p-values corrected for their number, so that all errors together stay at the level.

    Holm 1979, "A simple sequentially rejective multiple test procedure". NaN, a test that could
    not be done, stays NaN and does not count.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    done = np.flatnonzero(~np.isnan(p))
    order = done[np.argsort(p[done], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def ranks(values: ArrayLike, direction: Literal["maximize", "minimize"]) -> Array:
    """The place of each value, 1 the best; ties share the mean place, NaN has none."""
    from scipy.stats import rankdata

    values = np.asarray(values, dtype=np.float64)
    losses = -values if direction == "maximize" else values
    places: Array = rankdata(losses, nan_policy="omit")
    return places


def mean_ranks(places: ArrayLike) -> Array:
    """The mean over metrics of places (G, M); NaN for a group that lacks one."""
    means: Array = np.asarray(places, dtype=np.float64).mean(axis=1)
    return means


def _of_seeds(a: Array, b: Array) -> Part:
    """The variance of a difference of means, with Welch's degrees of freedom."""
    (variance_a, df_a), (variance_b, df_b) = variance_of_mean(a), variance_of_mean(b)
    variance = variance_a + variance_b
    if variance == 0:
        return Part(0.0, df_a + df_b)
    return Part(variance, variance**2 / (variance_a**2 / df_a + variance_b**2 / df_b))


def _tested(value: float, parts: list[Part], level: float) -> Difference:
    check_level(level)
    half = half_width(parts, 1 - level)
    return Difference(value, value - half, value + half, _p_value(value, parts))


def _p_value(value: float, parts: list[Part]) -> float:
    """1 less the level of the interval that ends at 0."""
    from scipy.optimize import brentq

    if any(math.isnan(part) for part in (value, *(part.variance for part in parts))):
        return math.nan
    if all(part.variance == 0 for part in parts):  # every seed and image alike
        return float(value == 0)

    def beyond(log_p: float) -> float:
        return half_width(parts, math.exp(log_p)) - abs(value)

    least = math.log(_LEAST_P)
    if value == 0 or beyond(least) <= 0:
        return 1.0 if value == 0 else _LEAST_P
    return math.exp(brentq(beyond, least, 0.0))
