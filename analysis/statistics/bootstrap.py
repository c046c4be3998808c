"""Intervals by drawing seeds and images again, for numbers without a formula.

Seeds and images are drawn with replacement each for itself and every drawn seed is scored on
every drawn image, as for tables with two random margins (Owen 2007, "The pigeonhole bootstrap").
rliable draws seeds for each task and holds tasks fixed (Agarwal et al. 2021); images are no fixed
tasks, since others will come.

A percentile interval from few seeds is too narrow: redrawing S seeds shows only (S-1)/S of their
variance, and three seeds have but ten different redraws. Where seeds are all that varies, a 95%
interval from 3 seeds holds the truth about three times in four, from 5 about 84%, from 10 about
90%. For means prefer the Student interval of `estimates`, which holds its level.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics.estimates import Array, as_scores, check_level

_CHUNK = 64  # resamples at a time, so that they fit a processor's cache


class Resamples(NamedTuple):
    """How often each was drawn in each of B resamples.

    Attributes:
        seeds: (B, S), each row adds up to S.
        images: (B, N), each row adds up to N.
    """

    seeds: Array
    images: Array


@lru_cache(maxsize=64)
def draw(seeds: int, images: int, *, resamples: int = 500, seed: int = 0) -> Resamples:
    """Draw seeds and images with replacement, each for itself.

    The images depend on their number and `seed` alone, so that configurations with other seeds
    are resampled on the same images.
    """

    def counts(size: int, stream: int) -> Array:
        random = np.random.default_rng([seed, stream, size])
        drawn = random.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
        flat = np.bincount(drawn.ravel(), minlength=resamples * size)
        table = flat.reshape(resamples, size).astype(np.float32)
        table.setflags(write=False)  # since the same table is given to all who ask
        return table

    return Resamples(counts(seeds, 0), counts(images, 1))


def resampled_means(scores: ArrayLike, drawn: Resamples) -> Array:
    """The mean of scores (S, N) in each resample, (B,)."""
    scores = as_scores(scores)
    _check(scores, drawn)
    total = ((drawn.seeds @ scores) * drawn.images).sum(axis=1)
    means: Array = total / scores.size
    return means


def resampled_interquartile_means(scores: ArrayLike, drawn: Resamples) -> Array:
    """The interquartile mean of scores (S, N) in each resample, (B,)."""
    scores = as_scores(scores)
    _check(scores, drawn)
    order = np.argsort(scores, axis=None)
    seed_of, image_of = np.divmod(order, scores.shape[1])
    ordered, count = scores.ravel()[order], scores.size
    steps = np.diff(ordered).astype(np.float32)
    means = np.empty(len(drawn.images))
    for first in range(0, len(means), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        seeds, images = (np.ascontiguousarray(counts[chunk].T) for counts in drawn)
        # How many of a resample's values come before each value and with it: those between the
        # quartiles are the middle half, which is summed by parts.
        running = np.take(seeds, seed_of, axis=0) * np.take(images, image_of, axis=0)
        np.cumsum(running, axis=0, out=running)
        np.clip(running, count / 4, count * 3 / 4, out=running)
        below = steps @ (running[:-1] - count / 4)
        means[chunk] = ordered[-1] - below / (count / 2)
    return means


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """How probably a seed of a scores higher on an image than one of b, ties counting half.

    The share of pairs of seeds in which a is higher, averaged over the images (Agarwal et al.
    2021, where images are tasks). For a metric that is better lower, pass -a and -b.

    Args:
        a: scores (S_a, N).
        b: scores (S_b, N), of the same images.
    """
    return float(_wins(a, b).mean())


def resampled_improvement(
    a: ArrayLike, b: ArrayLike, drawn_a: Resamples, drawn_b: Resamples
) -> Array:
    """The probability of improvement in each resample, (B,).

    Args:
        a: scores (S_a, N).
        b: scores (S_b, N), of the same images.
        drawn_a: seeds of a, and the images.
        drawn_b: seeds of b; its images are not used, since both are scored on the same.
    """
    wins = _wins(a, b)
    pairs = drawn_a.seeds[:, :, None] * drawn_b.seeds[:, None, :]
    by_pair = drawn_a.images @ wins.reshape(-1, wins.shape[2]).T
    total: Array = (by_pair * pairs.reshape(len(pairs), -1)).sum(axis=1)
    return total / wins.size


def percentile_interval(resampled: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Between which the middle `level` of resampled values lies; NaN if one of them is."""
    check_level(level)
    low, high = np.quantile(
        np.asarray(resampled, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2]
    )
    return float(low), float(high)


def _wins(a: ArrayLike, b: ArrayLike) -> Array:
    """1 where a is higher, 0.5 where they tie, (S_a, S_b, N); NaN where either is."""
    a, b = as_scores(a)[:, None, :], as_scores(b)[None, :, :]
    wins: Array = (0.5 + 0.5 * np.sign(a - b)).astype(np.float32)
    return wins


def _check(scores: Array, drawn: Resamples) -> None:
    got = (drawn.seeds.shape[1], drawn.images.shape[1])
    if got != scores.shape:
        raise ValueError(f"resamples of scores {scores.shape} must be of that shape, but got {got}")
