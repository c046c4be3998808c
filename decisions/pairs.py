"""How much better one level is than another, and what a level reached."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decisions.sequential import Array, intervals, nominal_levels, welch


@dataclass(frozen=True)
class Pair:
    """How much better one level is than another; in gain, of which more is better.

    Attributes:
        difference: of the means; over the seeds that both have, if these are at least half of
            what the one with fewer has.
        low: end of the interval at the level of the finding.
        high: the other.
        equal_low: end of the interval by which practical equality is judged, 90%.
        equal_high: the other.
        deviation: from seed to seed, of the difference; NaN where it is unknown.
        seeds: that the difference rests on, of each.
        paired: the seeds are the same.
    """

    difference: float
    low: float
    high: float
    equal_low: float
    equal_high: float
    deviation: float
    seeds: int
    paired: bool

    @property
    def is_sure(self) -> bool:
        """Whether the two are told apart."""
        return self.low > 0 or self.high < 0

    def is_within(self, margin: float) -> bool:
        """Whether the two are practically equal."""
        return -margin <= self.equal_low and self.equal_high <= margin

    def reversed(self) -> Pair:
        """The same, seen from the other."""
        return Pair(
            -self.difference, -self.high, -self.low, -self.equal_high, -self.equal_low,
            self.deviation, self.seeds, self.paired,
        )  # fmt: skip


def between_best(
    a: Array, b: Array, planned: int | None, alpha: float, *, equal_alpha: float | None = None
) -> Pair:
    """Compare the truly best configurations of two levels, of which the seeds chose one each.

    Whichever is best of a, it is at least as good as the chosen one; and whichever is best of b,
    the chosen one of a is ahead of it by no less than the lowest end of its intervals to all of b.
    That the chosen one was chosen from C costs a level of alpha / C (Bonferroni). So the interval
    holds the difference of the best ones in all but alpha of cases, and shrinks to that of `pair`
    where each level has one configuration.

    Args:
        a: (C_a, S), NaN where there is no score.
        b: (C_b, S).
        planned: see `decisions.decide`.
        alpha: of the finding that they differ.
        equal_alpha: of the finding that they are practically equal; by default the same.
    """
    equal_alpha = alpha if equal_alpha is None else equal_alpha
    low, equal_low, first = _ahead(a, b, planned, alpha, equal_alpha)
    high, equal_high, _ = _ahead(b, a, planned, alpha, equal_alpha)
    return replace(first, low=low, high=-high, equal_low=equal_low, equal_high=-equal_high)


def _ahead(
    a: Array, b: Array, planned: int | None, alpha: float, equal_alpha: float
) -> tuple[float, float, Pair]:
    """By how much the best of a is surely ahead of the best of b; and the two that seem best."""
    scored_a, scored_b = (np.isfinite(table).any(axis=1) for table in (a, b))
    best, other = (int(np.nanargmax(means_of(table))) for table in (a, b))
    tries = int(scored_a.sum())
    pairs = {
        int(j): pair(a[best], b[j], planned, alpha / tries, equal_alpha=equal_alpha / tries)
        for j in np.flatnonzero(scored_b)
    }
    low = min(found.low for found in pairs.values())
    return low, min(found.equal_low for found in pairs.values()), pairs[other]


def means_of(table: Array) -> Array:
    """Of each row, over what it has; NaN where that is nothing."""
    known = np.isfinite(table)
    sums = np.where(known, table, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)


def pair(
    a: Array, b: Array, planned: int | None, alpha: float, *, equal_alpha: float | None = None
) -> Pair:
    """Compare two levels.

    Args:
        a: (S,), NaN where the level has not been trained with that seed.
        b: the same.
        planned: see `decisions.decide`.
        alpha: of the finding that they differ.
        equal_alpha: of the finding that they are practically equal; by default the same.
    """
    differences = a - b
    known = differences[np.isfinite(differences)]
    of_a, of_b = a[np.isfinite(a)], b[np.isfinite(b)]
    each = min(len(of_a), len(of_b))
    paired = 2 * len(known) >= each and len(known) > 0
    seeds = len(known) if paired else each
    own = nominal_levels(alpha, planned, max(seeds, 2))
    for_equal = nominal_levels(
        2 * (alpha if equal_alpha is None else equal_alpha), planned, max(seeds, 2)
    )
    if paired:
        mean, low, high = map(float, intervals(known, own))
        _, equal_low, equal_high = map(float, intervals(known, for_equal))
        deviation = float(known.std(ddof=1)) if seeds > 1 else np.nan
    else:
        mean, low, high = welch(of_a, of_b, own)
        _, equal_low, equal_high = welch(of_a, of_b, for_equal)
        spread = [values.var(ddof=1) if each > 1 else np.nan for values in (of_a, of_b)]
        deviation = float(np.sqrt(sum(spread)))
    return Pair(mean, low, high, equal_low, equal_high, deviation, seeds, paired)


def adjusted_means(scores: Array) -> Array:
    """The mean of each level (K,) as if all had all seeds: where one has fewer, seeds count too.

    The least-squares means of a level's effect plus a seed's, which are the plain means where
    nothing is missing; plain means also where seeds do not link the levels; NaN for a level without
    scores.
    """
    known = np.isfinite(scores)
    if known.all() or not known.any():
        return means_of(scores)
    rows, columns = np.nonzero(known)
    count, seeds = scores.shape
    design = np.zeros((len(rows), count + seeds))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), count + columns] = 1
    centre = scores[known].mean()
    effects = np.linalg.lstsq(design, scores[known] - centre, rcond=None)[0]
    used = known.any(axis=0)
    if np.linalg.matrix_rank(design) < known.any(axis=1).sum() + used.sum() - 1:
        return means_of(scores)  # some levels share no seed with others, not even by way of a third
    adjusted: Array = effects[:count] + effects[count:][used].mean() + centre
    return np.where(known.any(axis=1), adjusted, np.nan)
