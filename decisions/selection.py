"""What a level reaches when its configuration is chosen by some seeds and judged by others.

Where one set of seeds chooses among several configurations and judges the chosen one, noise is
taken for merit: the level whose trainings vary more looks better.
"""

from __future__ import annotations

from math import comb

import numpy as np

from decisions.sequential import Array

_LEAST_WEIGHT = 0.5  # of the configurations that may be chosen, which a seed must have scores of


def judged_by_other_seeds(scores: Array, tries: int | None = None) -> Array:
    """The score with each seed of the configuration that the other seeds choose.

    Each seed judges what the rest has chosen (leave-one-out, Stone 1974, "Cross-validatory choice
    and assessment of statistical predictions"), so that no score helped to choose itself.

    Args:
        scores: (C, S), of C configurations with S seeds, more is better; NaN is a missing one.
        tries: how many configurations each level may choose from; None for all.

    Returns:
        (S,), NaN where nothing can be said: with one seed and several configurations.

    Raises:
        ValueError: there are fewer configurations than tries.
    """
    return weighted(scores, chosen_by_other_seeds(scores, tries))


def chosen_by_other_seeds(scores: Array, tries: int | None = None) -> Array:
    """How much each score counts in `judged_by_other_seeds`, (C, S); a seed's add up to 1, or 0.

    Where a level has more configurations than others, what counts is the expected score of the
    best of as many: of C ranked configurations the r-th, from 0, is the best of `tries` drawn
    ones with a probability of C(C - 1 - r, tries - 1) / C(C, tries). One without any score, since
    all its trainings failed, is a try as well, and the worst.
    """
    scores = np.asarray(scores, dtype=np.float64)
    count, seeds = scores.shape
    tries = count if tries is None else tries
    if not 1 <= tries <= count:
        raise ValueError(f"`tries` must be from 1 to the {count} configurations, but got {tries}")
    known = np.isfinite(scores)
    weights = np.zeros(scores.shape)
    if count == 1:
        weights[known] = 1.0
        return weights
    share = best_of(count, tries)
    for seed in range(seeds):
        others = np.delete(scores, seed, axis=1)
        counted = np.isfinite(others)
        judged = counted.any(axis=1)
        if not judged.any():
            continue
        totals = np.where(counted, others, 0).sum(axis=1)
        merit = np.where(judged, totals / np.maximum(counted.sum(axis=1), 1), -np.inf)
        weights[np.argsort(-merit, kind="stable"), seed] = share
    # Where the chosen one has no score with a seed, another one cannot stand in for it.
    weights[~known] = 0.0
    total = weights.sum(axis=0)
    return np.where(total > _LEAST_WEIGHT, weights / np.maximum(total, _LEAST_WEIGHT), 0.0)


def weighted(scores: Array, weights: Array) -> Array:
    """Scores (C, S) with the weights of `chosen_by_other_seeds`, (S,); NaN where none counts."""
    counted = np.where(weights > 0, scores * weights, 0.0).sum(axis=0)
    found: Array = np.where(weights.any(axis=0), counted, np.nan)
    return found


def best_of(count: int, tries: int) -> Array:
    """How likely each of ranked things, the best first, is the best of some that are drawn.

    Args:
        count: how many there are.
        tries: how many are drawn, without replacement.

    Returns:
        (count,), adds up to 1.
    """
    ways = comb(count, tries)
    return np.array([comb(count - 1 - rank, tries - 1) / ways for rank in range(count)])
