"""Which of many things is best where several values count."""

from __future__ import annotations

import numpy as np

from decisions.sequential import Array


def mean_places(losses: Array) -> Array:
    """The place of each thing in each value, averaged over the values; the best has the lowest.

    Equal values share a place. Nothing dominates the one with the lowest mean place, since it
    would be before it in some value and after it in none: it lies on the Pareto front.

    Args:
        losses: (N, M), of N things in M values, lower is better.

    Returns:
        (N,), from 0.
    """
    losses = np.asarray(losses, dtype=np.float64)
    places = [np.unique(column, return_inverse=True)[1] for column in losses.T]
    found: Array = np.mean(places, axis=0)
    return found
