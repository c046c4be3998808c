"""Which of several levels is best, from what each reached with a few seeds.

A level is one of what is compared, such as a loss. The level with the highest mean, the leader, is
held against each rival, seed by seed where both were trained with the same ones. Three things can
be found of a rival, each with an error rate of its own that holds however often one looks:

- The leader is **best** if it is better than every rival. That is one claim, whose error needs no
  correction for the number of rivals, since it must beat them all (intersection-union test, Berger
  1982).
- Where there is no best one, a rival is **worse** if the leader is better at a level that is
  divided by the number of pairs (Bonferroni): the leader was chosen from the same data, so that it
  may be any one of two, and the lowest of many equals would often look worse than the highest.
  Then the same is asked of those that are left, whose pairs are fewer (in the way of Holm 1979).
- A rival is **practically equal** if the difference lies within the margin by two one-sided tests
  (Schuirmann 1987). It may be worse and practically equal: surely so, and by next to nothing.

Where the same seeds chose among several configurations of a level and judge them, the chosen one
flatters its level. Its mean is then that of `decisions.selection`, and nothing is found but what
holds for whichever configuration is truly best: one of the leader's must beat all of a rival's, at
a level that is divided by how many the leader could choose from (`between_best`).

What is none of these is **open**. Variances are each pair's own: they differ tenfold between
losses, and a pooled one would break the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decisions.sequential import (
    ALPHA,
    FIRST_LOOK,
    LEAST_PLAN,
    PLANNED,
    Array,
    intervals,
    looks,
    nominal_levels,
    welch,
)

_POWER = 0.8  # with which more seeds are to decide
MOST_SEEDS = 62
"""What would need more is too close to call."""


@dataclass(frozen=True)
class Pair:
    """How much better one level is than another; in gain, of which more is better.

    Attributes:
        difference: of the means, over the seeds that both have if they share any.
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
        return -margin < self.equal_low and self.equal_high < margin

    def reversed(self) -> Pair:
        """The same, seen from the other."""
        return Pair(
            -self.difference, -self.high, -self.low, -self.equal_high, -self.equal_low,
            self.deviation, self.seeds, self.paired,
        )  # fmt: skip


@dataclass(frozen=True)
class Rival:
    """A level beside the leader.

    Attributes:
        level: its index.
        pair: how much better the leader is.
        is_worse: surely.
        is_equal: practically.
        seeds_needed: how many seeds each would probably need for a finding, with these; None if
            there is one, or more than 62 were needed.
        fresh_needed: how many of a new plan, for the levels that are open alone, without these:
            fewer, where many looks have left little of the permitted error. None as above.
    """

    level: int
    pair: Pair
    is_worse: bool
    is_equal: bool
    seeds_needed: int | None
    fresh_needed: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is found."""
        return not (self.is_worse or self.is_equal)


@dataclass(frozen=True)
class Decision:
    """What a comparison has found.

    Attributes:
        leader: index of the level with the highest mean.
        is_best: whether it is better than every other.
        rivals: the other levels, best first.
        confidence: of the intervals of `rivals`: 95% for each where the leader is best, and else
            so much that those of all pairs of what is not surely worse hold together in 95% of
            cases.
    """

    leader: int
    is_best: bool
    rivals: tuple[Rival, ...]
    confidence: float

    @property
    def open(self) -> tuple[Rival, ...]:
        """Rivals of whom nothing is found yet."""
        return tuple(rival for rival in self.rivals if rival.is_open)

    @property
    def equal(self) -> tuple[Rival, ...]:
        """Rivals that are practically equal to the leader."""
        return tuple(rival for rival in self.rivals if rival.is_equal)


def decide(
    scores: Array,
    margin: float,
    planned: int | None,
    *,
    alpha: float = ALPHA,
    among: Sequence[Array] | None = None,
) -> Decision | None:
    """Compare levels.

    Args:
        scores: (K, S), what each of K levels reached with each of S seeds, more is better, seeds
            in the order in which they were trained; NaN where a level has none.
        margin: below which a difference does not matter, in the unit of the scores.
        planned: how many seeds were meant to be trained before anybody looked; None if unknown.
        alpha: how likely each finding may be wrong.
        among: (C, S) for each level, the scores of all configurations from which the same seeds
            chose; None where each has one, or its seeds are fresh.

    Returns:
        The decision; None where no level has a score.

    Raises:
        ValueError: scores are not (K, S), or infinite, or the margin is below 0.
    """
    scores = _checked(scores, margin)
    present = np.flatnonzero(np.isfinite(scores).any(axis=1))
    if not len(present):
        return None
    means = adjusted_means(scores)
    leader = int(present[np.argmax(means[present])])
    others = [int(i) for i in present if i != leader]
    others.sort(key=lambda i: -means[i])

    def compared(each: float) -> dict[int, Pair]:
        return {i: _of_levels(scores, among, leader, i, planned, each, alpha) for i in others}

    each, pairs = alpha, compared(alpha)
    is_best = bool(others) and all(found.low > 0 for found in pairs.values())
    left, before = len(present), 0
    while not is_best and left != before:
        # What is surely worse is out of the question, which leaves fewer pairs to err about.
        each, before = alpha / _pairs(left), left
        pairs = compared(each)
        left = 1 + sum(not found.low > 0 for found in pairs.values())
    tries = 1 if among is None else max(len(table) for table in among)
    rivals = [Rival(i, p, p.low > 0, p.is_within(margin), None) for i, p in pairs.items()]
    fresh = alpha / _pairs(1 + sum(rival.is_open for rival in rivals))
    rivals = [
        replace(
            rival,
            seeds_needed=seeds_needed(rival.pair, margin, planned, each / tries, alpha / tries),
            fresh_needed=seeds_to_plan(rival.pair, margin, fresh, alpha),
        )
        if rival.is_open
        else rival
        for rival in rivals
    ]
    rivals.sort(key=lambda rival: rival.is_worse and not rival.is_equal)  # keeps the order
    return Decision(leader, is_best, tuple(rivals), 1 - each)


def _pairs(count: int) -> int:
    return max(1, count * (count - 1) // 2)


def _of_levels(
    scores: Array,
    among: Sequence[Array] | None,
    i: int,
    j: int,
    planned: int | None,
    alpha: float,
    equal_alpha: float,
) -> Pair:
    if among is None or len(among[i]) == len(among[j]) == 1:
        return pair(scores[i], scores[j], planned, alpha, equal_alpha=equal_alpha)
    # What is shown is the difference of what each level reaches by as many tries, which must itself
    # be clear: the best of more tries may be better without being so for as many.
    found = between_best(among[i], among[j], planned, alpha, equal_alpha=equal_alpha)
    shown = pair(scores[i], scores[j], planned, alpha, equal_alpha=equal_alpha)
    return replace(
        shown,
        low=min(found.low, shown.low),
        high=max(found.high, shown.high),
        equal_low=min(found.equal_low, shown.equal_low),
        equal_high=max(found.equal_high, shown.equal_high),
    )


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
        planned: see `decide`.
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
    best, other = (int(np.nanargmax(_means(table))) for table in (a, b))
    tries = int(scored_a.sum())
    pairs = {
        int(j): pair(a[best], b[j], planned, alpha / tries, equal_alpha=equal_alpha / tries)
        for j in np.flatnonzero(scored_b)
    }
    low = min(found.low for found in pairs.values())
    return low, min(found.equal_low for found in pairs.values()), pairs[other]


def _means(table: Array) -> Array:
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
        planned: see `decide`.
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


def all_pairs(
    scores: Array,
    planned: int | None,
    *,
    alpha: float = ALPHA,
    among: Sequence[Array] | None = None,
) -> dict[tuple[int, int], Pair]:
    """Every two levels that have scores, at a level divided by the number of pairs (Bonferroni).

    The arguments are those of `decide`.
    """
    scores = _checked(scores, 0.0)
    present = np.flatnonzero(np.isfinite(scores).any(axis=1))
    each = alpha / _pairs(len(present))
    return {
        (int(i), int(j)): _of_levels(scores, among, int(i), int(j), planned, each, alpha)
        for i, j in combinations(present, 2)
    }


def seeds_needed(
    found: Pair, margin: float, planned: int | None, alpha: float, equal_alpha: float
) -> int | None:
    """At which look an open pair is decided with a power of 80%, if the truth is as it looks.

    Args:
        found: the pair.
        margin: see `decide`.
        planned: the same.
        alpha: of the finding that they differ.
        equal_alpha: of the finding that they are practically equal.

    Returns:
        The number of seeds of each, and the planned one where nothing is known of the spread yet;
        None if it is more than 62.
    """
    if found.seeds < FIRST_LOOK:  # nothing is known of the spread
        return max(planned or 0, LEAST_PLAN)
    counts = np.array([n for n in looks(planned, MOST_SEEDS) if n > found.seeds], dtype=int)
    apart, equal = (
        nominal_levels(a, planned, MOST_SEEDS)[counts] for a in (alpha, 2 * equal_alpha)
    )
    return _first(found, margin, counts, apart, equal)


def seeds_to_plan(found: Pair, margin: float, alpha: float, equal_alpha: float) -> int | None:
    """How many seeds each must be planned to have, without those there are; see `seeds_needed`."""
    if found.seeds < FIRST_LOOK:
        return LEAST_PLAN
    counts = np.arange(LEAST_PLAN, MOST_SEEDS + 1)
    return _first(found, margin, counts, PLANNED * alpha, 2 * PLANNED * equal_alpha)


def _first(
    found: Pair,
    margin: float,
    counts: NDArray[np.integer[Any]],
    alpha: Array | float,
    equal_alpha: Array | float,
) -> int | None:
    """The first of some numbers of seeds that decides a pair, if the truth is as it looks."""
    from scipy.special import stdtrit

    if found.deviation == 0:  # see `intervals`
        decides = 2.0 ** (1 - counts) <= np.maximum(alpha, equal_alpha)
    else:
        luck, apart, equal = (
            stdtrit(counts - 1, share) * found.deviation / counts**0.5
            for share in (_POWER, 1 - np.asarray(alpha) / 2, 1 - np.asarray(equal_alpha) / 2)
        )
        lead = abs(found.difference)
        decides = (apart + luck < lead) | (lead + equal + luck < margin)
    return int(counts[np.argmax(decides)]) if decides.any() else None


def adjusted_means(scores: Array) -> Array:
    """The mean of each level (K,) as if all had all seeds: where one has fewer, seeds count too.

    The least-squares means of a level's effect plus a seed's, which are the plain means where
    nothing is missing; plain means also where seeds do not link the levels; NaN for a level without
    scores.
    """
    known = np.isfinite(scores)
    if known.all() or not known.any():
        return _means(scores)
    rows, columns = np.nonzero(known)
    count, seeds = scores.shape
    design = np.zeros((len(rows), count + seeds))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), count + columns] = 1
    centre = scores[known].mean() if known.any() else 0.0
    effects = np.linalg.lstsq(design, scores[known] - centre, rcond=None)[0]
    used = known.any(axis=0)
    if np.linalg.matrix_rank(design) < known.any(axis=1).sum() + used.sum() - 1:
        return _means(scores)  # some levels share no seed with others, not even by way of a third
    adjusted: Array = effects[:count] + effects[count:][used].mean() + centre
    return np.where(known.any(axis=1), adjusted, np.nan)


def _checked(scores: Array, margin: float) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (levels, seeds), but got the shape {scores.shape}")
    if np.isinf(scores).any():
        raise ValueError("scores must be finite, or NaN where there is none, but one is infinite")
    if not margin >= 0:
        raise ValueError(f"`margin` must be 0 or more, but got {margin}")
    return scores
