"""What a level reaches when its configuration is chosen by some seeds and judged by others.

Where one set of seeds chooses among several configurations and judges the chosen one, noise is
taken for merit: the level whose trainings vary more looks better.
"""

from __future__ import annotations

from math import comb

import numpy as np

from decisions.sequential import Array


def judged_by_other_seeds(scores: Array, tries: int | None = None) -> Array:
    """The score with each seed of the configuration that the other seeds choose.

    Each seed judges what the rest has chosen (leave-one-out, Stone 1974, "Cross-validatory choice
    and assessment of statistical predictions"), so that no score helped to choose itself. Where a
    level has more configurations than others, what counts is the expected score of the best of as
    many: of C ranked configurations the r-th, from 0, is the best of `tries` drawn ones with a
    probability of C(C - 1 - r, tries - 1) / C(C, tries).

    Args:
        scores: (C, S), of C configurations with S seeds, more is better; NaN is a missing one.
        tries: how many configurations each level may choose from; None for all.

    Returns:
        (S,), NaN where nothing can be said: with one seed and several configurations.

    Raises:
        ValueError: there are fewer configurations than tries.
    """
    scores = np.asarray(scores, dtype=np.float64)
    count, seeds = scores.shape
    tries = count if tries is None else tries
    if not 1 <= tries <= count:
        raise ValueError(f"`tries` must be from 1 to the {count} configurations, but got {tries}")
    if count == 1:
        first: Array = scores[0]
        return first
    found = np.full(seeds, np.nan)
    for seed in range(seeds):
        others = np.delete(scores, seed, axis=1)
        known = np.isfinite(others)
        if not known.any():
            continue
        merit = np.where(
            known.any(axis=1),
            np.where(known, others, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1),
            -np.inf,
        )
        # A configuration that others' seeds have and this one lacks cannot be judged by it.
        order = [i for i in np.argsort(-merit, kind="stable") if np.isfinite(scores[i, seed])]
        if len(order) < tries:
            continue
        weights = best_of(len(order), tries)
        found[seed] = float(weights @ scores[order, seed])
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
