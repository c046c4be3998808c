"""A race: more paired seeds only for configurations that cannot be told apart from a better one.

Each candidate is trained with the same seeds, in the same order. After every seed each pair of
candidates is compared by a paired t-test over the seeds that both have had (Maron and Moore 1993,
"Hoeffding Races", with Student's t as in Birattari et al. 2002, "A Racing Algorithm for
Configuring Metaheuristics"). A candidate that is worse than another in every objective leaves the
race.

The error is controlled over everything that is looked at. Of `alpha` each pair and objective has
an equal share (Bonferroni), of which exp(-(4 / n)^2) is spent by the look after n seeds (an alpha
spending function, Lan and DeMets 1983): next to nothing at two seeds, where a t-test sees
nothing, half by five, and all of it never. So no comparison is wrong with a probability of
`1 - alpha` or more, whenever the race ends, and an undecided race may be prolonged. Assumed is
that the differences between two candidates are independent and normal from seed to seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""How likely the race may be wrong in any of its comparisons."""
LEAST_SEEDS = 2
"""Before anybody is dropped: with one seed there is no spread to judge a difference by."""

_NO_SPREAD = 1e-12  # of the values: what rounding leaves of equal differences


@dataclass(frozen=True)
class Verdict:
    """How a race stands.

    Attributes:
        seeds: that all who are still racing have had.
        kept: (K,) candidates than which no other is better in every objective.
        racing: (K,) of these, the ones that cannot be told apart from another.
    """

    seeds: int
    kept: NDArray[np.bool_]
    racing: NDArray[np.bool_]


def race(losses: NDArray[np.float64], alpha: float = ALPHA) -> Verdict:
    """Follow a race seed by seed, as far as its values are known.

    The verdict at a seed depends on no later one, so it stays when more values come in. Of
    several objectives, two candidates that are each better in another one are told apart, and
    both are kept.

    Args:
        losses: (K, M, R), of K candidates in M objectives with R seeds, lower is better; NaN is
            not known yet, and infinity is a trial without a value, whose candidate leaves.
        alpha: how likely any comparison may be wrong, in (0, 1).
    """
    candidates, objectives, most = losses.shape
    comparisons = max(1, candidates * (candidates - 1) // 2 * objectives)
    kept = np.ones(candidates, dtype=bool)
    racing = kept.copy()
    settled = np.eye(candidates, dtype=bool)
    for n in range(1, most + 1):
        if np.isnan(losses[racing, :, n - 1]).any():
            return Verdict(n - 1, kept, racing)
        kept = kept & ~(racing & np.isinf(losses[:, :, n - 1]).any(axis=1))
        racing = racing & kept
        if n < LEAST_SEEDS:
            continue
        better = np.zeros((candidates, candidates, objectives), dtype=bool)
        among = np.ix_(racing, racing)
        better[among] = _told_better(losses[racing, :, :n], alpha * share(n) / comparisons)
        kept = kept & ~better.all(axis=2).any(axis=0)
        apart = better.any(axis=2)
        settled |= apart & apart.T
        racing = racing & kept
        racing = racing & (racing & ~settled).any(axis=1)
        if not racing.any():
            return Verdict(n, kept, racing)
    return Verdict(most, kept, racing)


def share(seeds: int) -> float:
    """The part of the permitted error that the look after so many seeds, 2 or more, may use."""
    return math.exp(-((4 / seeds) ** 2)) - math.exp(-((4 / (seeds - 1)) ** 2))


def _told_better(losses: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    """Who is better than whom in what, by two-sided paired t-tests.

    Equal differences without any spread are no sample of a normal distribution; they are judged
    by their signs alone.

    Args:
        losses: (K, M, n), finite.
        level: of each test.

    Returns:
        (K, K, M), whether the first candidate is better than the second.
    """
    from scipy.special import stdtr

    n = losses.shape[2]
    leads = losses[None] - losses[:, None]
    mean, spread = leads.mean(axis=3), leads.std(axis=3, ddof=1)
    has_spread = spread > _NO_SPREAD * np.abs(losses).max(initial=0.0)
    t = mean / np.where(has_spread, spread, 1.0) * np.sqrt(n)
    p = np.where(has_spread, 2 * stdtr(n - 1, -np.abs(t)), 2.0 ** (1 - n))
    return (mean > 0) & (p <= level)  # type: ignore[no-any-return]
