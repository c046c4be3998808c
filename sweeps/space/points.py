"""Points of a search space: one form of each value, and one name of each point.

A number can be computed in several ways that differ in the last digit: the third step of 0.1 is
0.3 or 0.30000000000000004. Here it has one form, so that it is one point of a study, whoever
computed it and when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution

Values = dict[str, Any]
"""Of the dimensions of a trial, by key; what Optuna stores."""
Point = tuple[Values, int | None]
"""Values and a seed, None where no seed is searched."""
Distributions = Mapping[str, BaseDistribution]

_LONGEST = 2**53  # up to which every whole number is a float


def step_of(distribution: BaseDistribution) -> float | None:
    """Of a distribution of numbers with a fixed distance that need not be whole."""
    return distribution.step if isinstance(distribution, FloatDistribution) else None


def at_step(distribution: FloatDistribution, count: int) -> float:
    """So many steps above the lowest value, in decimal arithmetic."""
    assert distribution.step is not None
    return float(Decimal(repr(distribution.low)) + count * Decimal(repr(distribution.step)))


def steps_to(distribution: FloatDistribution, value: float) -> int:
    """How many steps above the lowest value a number is; the nearest where it is between two."""
    assert distribution.step is not None
    above = Decimal(repr(float(value))) - Decimal(repr(distribution.low))
    return round(above / Decimal(repr(distribution.step)))


def canonical(value: Any, distribution: BaseDistribution | None) -> Any:
    """The one form of a value that a distribution gave."""
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return at_step(distribution, steps_to(distribution, value))
    return value


def canonical_values(values: Mapping[str, Any], distributions: Distributions) -> Values:
    """The values of a trial, each in its one form."""
    return {key: canonical(value, distributions.get(key)) for key, value in values.items()}


def point_name(values: Mapping[str, Any], seed: int | None) -> str:
    """A text that is the same for the same values and seed only, however they are written."""
    plain = {key: _plain(value) for key, value in sorted(values.items())}
    return json.dumps([plain, seed], default=repr)


def point_seed(name: str) -> int | None:
    """The seed in a point's name."""
    seed: int | None = json.loads(name)[1]
    return seed


def is_name(text: object) -> bool:
    """Whether a text names a point as this version writes it."""
    try:
        found = json.loads(str(text))
    except ValueError:
        return False
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], dict):
        return False
    return found[1] is None or type(found[1]) is int


def canonical_name(name: str, distributions: Distributions) -> str:
    """The name of the same point as this version writes it, from that of any version.

    Args:
        name: as a trial has it; what is no name stays as it is.
        distributions: of the trial's parameters, as far as it has them.
    """
    steps = [item for item in distributions.items() if step_of(item[1]) is not None]
    return _canonical_name(name, tuple(steps))


@lru_cache(maxsize=1 << 17)
def _canonical_name(name: str, steps: tuple[tuple[str, BaseDistribution], ...]) -> str:
    if not is_name(name):
        return name
    values, seed = json.loads(name)
    return point_name(canonical_values(values, dict(steps)), seed)


def _plain(value: Any) -> Any:
    """1.0 as 1 and -0.0 as 0: equal numbers have one name."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LONGEST:
        return int(value)
    return value
