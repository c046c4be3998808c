"""Which points are best by several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection

Losses = NDArray[np.float64]


def as_losses(
    values: Sequence[Sequence[float | None]], directions: Sequence[StudyDirection]
) -> Losses:
    """Turn objective values so that lower is better and NaN (or None) is worst.

    Args:
        values: n points of m values.
        directions: m directions.

    Returns:
        (n, m).

    Raises:
        ValueError: a point does not have one value for each direction.
    """
    wrong = [point for point in values if len(point) != len(directions)]
    if wrong:
        raise ValueError(
            f"a point must have {len(directions)} values, one for each objective, "
            f"but got {list(wrong[0])}"
        )
    signs = [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in directions]
    losses = np.array(values, dtype=float).reshape(len(values), len(directions)) * signs
    return np.where(np.isnan(losses), np.inf, losses)


def on_front(losses: Losses) -> NDArray[np.bool_]:
    """Which of (n, m) points no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better; equal points do not
    dominate each other.
    """
    unique, inverse = np.unique(losses, axis=0, return_inverse=True)
    return _front_of_sorted(unique)[inverse.reshape(-1)]


def pareto_ranks(losses: Losses) -> NDArray[np.int64]:
    """The rank of each of (n, m) points: 0 on the front, 1 on the front of the rest, and so on.

    Non-dominated sorting (Deb et al. 2002, NSGA-II, section III A); with one objective, the
    place among the distinct values.
    """
    unique, inverse = np.unique(losses, axis=0, return_inverse=True)
    if losses.shape[1] == 1:
        return inverse.reshape(-1).astype(np.int64)
    ranks = np.zeros(len(unique), dtype=np.int64)
    left = np.arange(len(unique))
    rank = 0
    while len(left):
        front = _front_of_sorted(unique[left])
        ranks[left[front]] = rank
        left = left[~front]
        rank += 1
    return ranks[inverse.reshape(-1)]


def _front_of_sorted(points: Losses) -> NDArray[np.bool_]:
    """Of distinct points in lexicographic order, where a point never dominates an earlier one."""
    front = np.zeros(len(points), dtype=bool)
    left = np.arange(len(points))
    while len(left):
        first = left[0]
        front[first] = True
        left = left[(points[left] < points[first]).any(axis=1)]
    return front
