"""The parameters of a trial that begins: what the sampler proposes, at a point nobody has taken."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import optuna

from sweeps.space.dimensions import Dimension, Space
from sweeps.space.grid import Remaining
from sweeps.space.points import Point, Values, canonical, point_name
from sweeps.storage import private
from sweeps.study.counts import Counts

_REDRAWS = 20


def proposed(
    study: optuna.Study,
    trial: optuna.Trial,
    space: Space,
    counts: Counts,
    remaining: Remaining | None,
) -> tuple[optuna.Trial, Point]:
    """A point for a new trial, and the trial, which `suggest` gives its values.

    Args:
        study: with the worker's sampler.
        trial: that has none yet.
        space: that is searched.
        counts: of the study.
        remaining: points of the space that are left; None where they cannot be counted.
    """
    values, seed = _untaken(study, trial, space, counts, remaining)
    return private.fix(study, trial, values), (values, seed)


def suggest(trial: optuna.Trial, space: Space, values: Values) -> None:
    """Store the values of a trial as its parameters."""
    for dimension in space.dimensions:
        if dimension.key in values:
            _suggest(trial, dimension)


def _untaken(
    study: optuna.Study,
    trial: optuna.Trial,
    space: Space,
    counts: Counts,
    remaining: Remaining | None,
) -> Point:
    """What the sampler proposes, drawn again while it is taken: no point is run twice.

    A sampler that is sure of an edge of the space proposes that again and again, also where it has
    infinitely many points.
    """
    frozen = private.read(study, trial)
    fixed = frozen.system_attrs.get(private.FIXED, {})
    relative = dict(trial.relative_params)

    def draw(dimension: Dimension) -> Any:
        if dimension.key in fixed:
            return fixed[dimension.key]
        if dimension.key in relative:
            return relative.pop(dimension.key)  # the sampler says it once
        return study.sampler.sample_independent(
            study, frozen, dimension.key, dimension.distribution
        )

    seeds: Sequence[int | None] = space.seeds or (None,)
    if remaining is None:
        seeds = [seeds[trial.number % len(seeds)]]
    for _ in range(_REDRAWS):
        values = space.fill(draw)
        for seed in seeds:
            if point_name(values, seed) not in counts.points:
                return values, seed
    return (values, seeds[0]) if remaining is None else remaining.draw(Random(trial.number))


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    value = private.suggest(trial, dimension.key, dimension.distribution)
    one = canonical(value, dimension.distribution)
    if one != value:  # samplers multiply a step, where the last digit may differ
        private.store(trial, dimension.key, one, dimension.distribution)
    return one
