"""Which points are best by several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.study._multi_objective import _fast_non_domination_rank

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
    """Which of (n, m) points no other point dominates; equal points do not dominate each other."""
    front: NDArray[np.bool_] = pareto_ranks(losses) == 0
    return front


def pareto_ranks(losses: Losses) -> NDArray[np.int64]:
    """The rank of each of (n, m) points: 0 on the front, 1 on the front of the rest, and so on.

    Non-dominated sorting (Deb et al. 2002, NSGA-II, section III A); with one objective, the
    place among the distinct values.
    """
    ranks: NDArray[np.int64] = _fast_non_domination_rank(losses)
    return ranks
