"""What a sweep searches: dimensions, the conditions under which they exist, and what is fixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.errors import UserError
from sweeps.space.points import Values, at_step, canonical, step_of, steps_to
from sweeps.space.priors import Prior

SEED_KEY = "seed"
MOST_VALUES = 1_000_000
"""Of a key that a sweep lists."""


@dataclass(frozen=True)
class Condition:
    """That dimensions have some values.

    Attributes:
        keys: of the dimensions.
        allowed: the combinations of their values, as text of overrides.
    """

    keys: tuple[str, ...]
    allowed: frozenset[tuple[str, ...]]

    def holds(self, rendered: Mapping[str, str]) -> bool:
        """Whether it does for values given as text of overrides."""
        return tuple(rendered.get(key, "") for key in self.keys) in self.allowed


@dataclass(frozen=True)
class Dimension:
    """A parameter of the search.

    Attributes:
        key: as typed, with `+` or `++` if it had that.
        distribution: Optuna's.
        texts: of a categorical distribution's choices, as the override grammar writes them.
        enumerated: the user listed the values, so that they can be a dimension of a grid.
        listed: those of the distribution's choices that are meant, where it has others as well.
        conditions: all of which must hold, or the dimension does not exist.
        prior: how a random sampler draws its values; None for evenly over the distribution.
    """

    key: str
    distribution: BaseDistribution
    texts: tuple[str, ...] = ()
    enumerated: bool = True
    listed: tuple[Any, ...] = ()
    conditions: tuple[Condition, ...] = ()
    prior: Prior | None = None

    def __post_init__(self) -> None:
        """Refuse more values than a grid can have.

        Raises:
            UserError: the user listed them, and there are too many.
        """
        if self.enumerated and self.is_finite:
            refuse_too_many(self.size, f"`{self.key}`")

    @property
    def is_finite(self) -> bool:
        """Whether there are finitely many values."""
        return not isinstance(self.distribution, FloatDistribution) or self.is_stepped

    @property
    def is_stepped(self) -> bool:
        """Whether the values are numbers with a fixed distance that need not be whole."""
        return step_of(self.distribution) is not None

    @property
    def size(self) -> int:
        """How many values there are.

        Raises:
            UserError: infinitely many.
        """
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return len(self.listed or distribution.choices)
        if isinstance(distribution, IntDistribution):
            return (distribution.high - distribution.low) // distribution.step + 1
        assert isinstance(distribution, FloatDistribution)
        if not self.is_stepped:
            raise UserError(
                f"a grid must have discrete values, but `{self.key}` is an interval; "
                f"list the values ({self.key}=1e-3,3e-4) or choose another sampler"
            )
        return steps_to(distribution, distribution.high) + 1

    def value_at(self, place: int) -> Any:
        """The value at a place from 0 on, in the order given."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return (self.listed or distribution.choices)[place]
        if isinstance(distribution, IntDistribution):
            return distribution.low + place * distribution.step
        assert isinstance(distribution, FloatDistribution)
        return at_step(distribution, place)

    def place_of(self, value: float) -> int | None:
        """The place of a number, if it is a value of a dimension of numbers."""
        distribution = self.distribution
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return None
        if isinstance(distribution, FloatDistribution):
            place = steps_to(distribution, value)
        else:
            assert isinstance(distribution, IntDistribution)
            place = int(value - distribution.low) // distribution.step
        return place if 0 <= place < self.size and self.value_at(place) == value else None

    def has(self, value: Any) -> bool:
        """Whether a value of a config is one of the dimension's."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return value in (self.listed or distribution.choices)
        if self.is_finite:
            return self.place_of(value) is not None
        assert isinstance(distribution, FloatDistribution)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and distribution.low <= value <= distribution.high

    def values(self) -> list[Any]:
        """All values, in the order given.

        Raises:
            UserError: there are infinitely many.
        """
        return [self.value_at(place) for place in range(self.size)]

    def render(self, value: Any) -> str:
        """A value as the override grammar writes it."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.texts[self.distribution.choices.index(value)]
        return repr(canonical(value, self.distribution))

    def exists(self, rendered: Mapping[str, str]) -> bool:
        """Whether the dimension does where the others have these values, as text of overrides."""
        return all(condition.holds(rendered) for condition in self.conditions)


@dataclass(frozen=True)
class Fixed:
    """An override that passes through, where its conditions hold."""

    text: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Space:
    """What a sweep searches.

    Attributes:
        dimensions: those that others depend on come first.
        seeds: of the trials, if they are a dimension. They are kept apart, because a sampler must
            not optimise over them.
        fixed: overrides of every trial.
    """

    dimensions: tuple[Dimension, ...]
    seeds: tuple[int, ...] = ()
    fixed: tuple[Fixed, ...] = ()
    _by_key: dict[str, Dimension] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {d.key: d for d in self.dimensions})

    @property
    def is_enumerated(self) -> bool:
        """Whether every dimension lists its values, so that the space is a grid."""
        return all(dimension.enumerated for dimension in self.dimensions)

    @property
    def is_finite(self) -> bool:
        """Whether there are finitely many combinations."""
        return all(dimension.is_finite for dimension in self.dimensions)

    def fill(self, draw: Callable[[Dimension], Any]) -> Values:
        """Values for every dimension that exists, each drawn after those it depends on."""
        values: Values = {}
        rendered: dict[str, str] = {}
        for dimension in self.dimensions:
            if dimension.exists(rendered):
                value = canonical(draw(dimension), dimension.distribution)
                values[dimension.key] = value
                rendered[dimension.key] = dimension.render(value)
        return values

    def overrides(self, values: Mapping[str, Any], seed: int | None) -> list[str]:
        """The overrides of a trial."""
        rendered = {key: self._by_key[key].render(value) for key, value in values.items()}
        fixed = [
            f.text
            for f in self.fixed
            if all(condition.holds(rendered) for condition in f.conditions)
        ]
        seeds = [] if seed is None else [f"{SEED_KEY}={seed}"]
        return [*fixed, *(f"{key}={text}" for key, text in rendered.items()), *seeds]

    def describe(self) -> dict[str, Any]:
        """The dimensions as plain values, to store and to compare."""
        from optuna.distributions import distribution_to_json

        return {d.key: json.loads(distribution_to_json(d.distribution)) for d in self.dimensions}


def refuse_too_many(count: float, what: str) -> None:
    """Refuse more values than can be listed; a file could otherwise ask for any memory.

    Raises:
        UserError: there are too many.
    """
    if count > MOST_VALUES:
        raise UserError(
            f"a sweep must list at most {MOST_VALUES:,} values of a key, but {what} has "
            f"{count:,.0f}; take larger steps, or an interval: interval(LOW,HIGH)"
        )


def dependencies_first(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """In an order in which each follows those that its conditions are about.

    Raises:
        UserError: there is none.
    """
    ordered: list[Dimension] = []
    waiting = list(dimensions)
    while waiting:
        known = {d.key for d in ordered}
        ready = [
            d for d in waiting if all(set(condition.keys) <= known for condition in d.conditions)
        ]
        if not ready:
            keys = ", ".join(d.key for d in waiting)
            raise UserError(f"`hydra.sweeper.conditions` must not run in a circle: {keys}")
        ordered += ready
        waiting = [d for d in waiting if d not in ready]
    return ordered
