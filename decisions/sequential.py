"""Comparing two paired samples while they grow, with one error rate over all looks.

Whoever opens a page after every new seed, and stops when a difference is significant, finds one
in far more than 5% of the cases where there is none. So the permitted error is spread over the
looks, by a function that says how much of it is spent once each has n seeds (Lan and DeMets 1983,
"Discrete sequential boundaries for clinical trials"): little before the planned number of seeds,
most of it there, and a reserve for seeds that are added later.

The boundaries are those of a normal random walk (Armitage, McPherson and Rowe 1969). A difference
of trainings has an unknown variance, so their nominal levels are used with Student's t (Jennison
and Turnbull 2000, section 3.8). That is nearly exact from a few seeds on;
`benchmarks.analysis.answers` measures it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

ALPHA = 0.05
"""How likely it may be that something is found where there is nothing."""
FIRST_LOOK = 2
"""Seeds; with one there is no spread to judge a difference by."""

LEAST_PLAN = 3
"""Seeds; with two a t-test sees nothing, so that a plan of two is one of three."""

_EARLY, _BY_PLAN, _EVER = 0.02, 0.84, 0.94
PLANNED = _BY_PLAN - _EARLY
"""The share of the permitted error that the planned look alone may spend."""
_GROWTH = 1.5
_NODES = 96  # of the integrals; the levels are then exact to 1e-9 for up to 100 seeds
_LARGEST_Z = 12.0
_NO_SPREAD = 1e-12  # of the values: what rounding leaves of equal differences


def looks(planned: int | None, most: int) -> list[int]:
    """At which numbers of seeds a comparison is looked at: what lies between them changes nothing.

    Before the plan after every seed, and later each time that there are half as many again:
    looks that follow each other closely would share what error is left, and see hardly more.

    Args:
        planned: how many seeds were meant to be trained before anybody looked; None if unknown,
            which is 3, 5, 8 and so on.
        most: seeds at most.
    """
    if planned is None:
        found, n = [3], 3
    else:
        n = max(planned, LEAST_PLAN)
        found = list(range(FIRST_LOOK, n + 1))
    while n < most:
        n = -int(-n * _GROWTH // 1)
        found.append(n)
    return [look for look in found if look <= most]


def spent(seeds: int, planned: int | None) -> float:
    """The share of the permitted error that is spent by a look with so many seeds.

    Of it 2% are for all looks before the plan, 84% are spent by the planned look, and half of
    what is left of 94% with each look that follows. The rest is kept: of few seeds Student's t
    is a little further from the walk than the levels allow for. Without a plan, each look has a
    third of what is left.

    Args:
        seeds: one of `looks`.
        planned: see `looks`.
    """
    if planned is None:
        return _EVER * (1 - (2 / 3) ** len(looks(None, seeds)))
    planned = max(planned, LEAST_PLAN)
    if seeds < planned:
        return _EARLY * ((seeds - 1) / (planned - 1)) ** 3
    return _EVER - (_EVER - _BY_PLAN) * 0.5 ** sum(look > planned for look in looks(planned, seeds))


@lru_cache(maxsize=256)
def nominal_levels(alpha: float, planned: int | None, most: int) -> Array:
    """The two-sided level at which to test at each look, so that all looks together err by alpha.

    Args:
        alpha: the error rate of all looks, in (0, 1).
        planned: see `spent`.
        most: seeds of the last look.

    Returns:
        (most + 1,), at n what holds with n seeds; 0 where there is no look.

    Raises:
        ValueError: alpha is not in (0, 1).
    """
    from scipy.special import ndtr

    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must be in (0, 1), but got {alpha}")
    found = np.zeros(most + 1)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # The walk after one seed; `mass` is that of the walks which no look has stopped.
    walk = 9.0 * nodes
    mass = 9.0 * weights * np.exp(-0.5 * walk**2) / np.sqrt(2 * np.pi)
    before, seeds = 0.0, 1
    for n in looks(planned, most):
        share = spent(n, planned)
        step = (n - seeds) ** 0.5
        edge = _edge(walk, mass, step, alpha * (share - before), _LARGEST_Z * n**0.5)
        found[n] = 2 * ndtr(-edge / n**0.5)
        moves = (edge * nodes[:, None] - walk) / step
        density = np.exp(-0.5 * moves**2) / (np.sqrt(2 * np.pi) * step) @ mass
        walk, mass = edge * nodes, edge * weights * density
        before, seeds = share, n
    found.setflags(write=False)  # since all who ask share it
    return found


def _edge(walk: Array, mass: Array, step: float, chance: float, most: float) -> float:
    """Beyond which, on either side, a walk goes with that chance after one more step.

    Args:
        walk: (N,), where it may be now.
        mass: (N,), how likely it is there.
        step: standard deviation of the next step.
        chance: that is wanted.
        most: an edge that is surely too far away.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def excess(edge: float) -> float:
        return float(mass @ (ndtr((walk - edge) / step) + ndtr((-walk - edge) / step))) - chance

    return float(brentq(excess, 0.0, most, xtol=1e-10))


def intervals(differences: Array, levels: Array) -> tuple[Array, Array, Array]:
    """Of paired differences that came in one by one: their mean, and what all looks leave of it.

    The interval is the intersection of Student's intervals of all looks (repeated confidence
    intervals, Jennison and Turnbull 1989), so what was found once stays found, unless the mean of
    all seeds has left the interval since: then that is widened to hold it. Equal differences
    without any spread are no sample of a normal distribution: their interval is the point itself
    once chance would have given them one sign less often than the level, 2^(1 - n).

    Args:
        differences: (..., S), in the order of the seeds; NaN where one of the two has none.
        levels: (S + 1 or more,), see `nominal_levels`.

    Returns:
        Means, lower and upper ends, each (...); infinite ends before the first look, NaN means
        where there is no difference at all.
    """
    from scipy.special import stdtrit

    known = np.isfinite(differences)
    n = known.cumsum(axis=-1)
    counts = n[..., -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(known, differences, 0.0).sum(axis=-1)
        mean = np.where(counts > 0, total / counts, np.nan)
        # Centred, so that the running variance does not lose its digits.
        centred = np.where(known, differences - mean[..., None], 0.0)
        means = centred.cumsum(axis=-1) / n
        variance = ((centred**2).cumsum(axis=-1) - n * means**2) / (n - 1)
        means = means + mean[..., None]
        scale = np.nanmax(np.abs(differences), axis=-1, initial=0.0)[..., None]
        flat = variance <= (_NO_SPREAD * scale) ** 2
        level = np.where(known, levels[n], 0.0)
        half = -stdtrit(np.maximum(n - 1, 1), level / 2) * np.sqrt(np.maximum(variance, 0.0) / n)
        half = np.where(flat, np.where(2.0 ** (1 - n) <= level, 0.0, np.inf), half)
        half = np.where(level > 0, half, np.inf)
        low = np.where(np.isfinite(half), means - half, -np.inf).max(axis=-1)
        high = np.where(np.isfinite(half), means + half, np.inf).min(axis=-1)
    # Where later seeds contradict what was found, it is not found any more.
    return mean, np.fmin(low, mean), np.fmax(high, mean)


def welch(a: Array, b: Array, levels: Array) -> tuple[float, float, float]:
    """The difference of two means whose seeds are not the same, with its interval (Welch 1947).

    Args:
        a: values (S_a,).
        b: values (S_b,).
        levels: see `nominal_levels`; the last look that both have reached counts, with its seeds.

    Returns:
        Mean of a less that of b, lower and upper end; infinite ends before the first look.
    """
    from scipy.stats import ttest_ind

    mean = float(a.mean() - b.mean())  # of all
    reached = np.flatnonzero(levels[: min(len(a), len(b)) + 1])
    if not len(reached):
        return mean, -np.inf, np.inf
    look = int(reached[-1])
    level, a, b = float(levels[look]), a[:look], b[:look]
    if np.ptp(a) == np.ptp(b) == 0:
        half = 0.0 if 2.0 ** (1 - look) <= level else np.inf
        return mean, mean - half, mean + half
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(1 - level)
    return mean, min(mean, float(interval.low)), max(mean, float(interval.high))
