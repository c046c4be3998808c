"""How many more seeds would decide what is open."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decisions.pairs import Pair
from decisions.sequential import FIRST_LOOK, LEAST_PLAN, PLANNED, Array, looks, nominal_levels

_POWER = 0.8  # with which more seeds are to decide
MOST_SEEDS = 62
"""What would need more is too close to call."""


def seeds_needed(
    found: Pair, margin: float, planned: int | None, alpha: float, equal_alpha: float
) -> int | None:
    """At which look an open pair is decided with a power of 80%, if the truth is as it looks.

    Args:
        found: the pair.
        margin: see `decisions.decide`.
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
