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

import numpy as np

from decisions.pairs import Pair, adjusted_means, between_best, pair
from decisions.planning import seeds_needed, seeds_to_plan
from decisions.sequential import ALPHA, Array


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
        rivals: the other levels, best first, but what is surely worse at the end.
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


def _checked(scores: Array, margin: float) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (levels, seeds), but got the shape {scores.shape}")
    if np.isinf(scores).any():
        raise ValueError("scores must be finite, or NaN where there is none, but one is infinite")
    if not margin >= 0:
        raise ValueError(f"`margin` must be 0 or more, but got {margin}")
    return scores
