"""Grids: every point of a finite space, numbered, and the points that are left."""

from __future__ import annotations

import itertools
import json
import random
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution

from sweeps.space.dimensions import Dimension, Space
from sweeps.space.points import Point, Values

_ABSENT = ""
_MOST_KEPT = 10_000  # values of a dimension


class Grid:
    """The points of a finite space, the last dimension fastest, and the seeds fastest of all.

    A point is computed from its number, and a number from a point's name, so that neither the
    time nor the memory that this takes grows with the size of the grid.

    Args:
        space: in which each dimension has finitely many values.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._dimensions = space.dimensions
        self._seeds = space.seeds or (None,)
        self._seed_places = {seed: place for place, seed in enumerate(self._seeds)}
        self._places = [_places(dimension) for dimension in space.dimensions]
        # Of each depth, the earlier keys that the rest depends on; the rest is alike otherwise.
        self._decisive = [
            tuple(dict.fromkeys(key for d in rest for c in d.conditions for key in c.keys))
            for rest in (space.dimensions[depth:] for depth in range(len(space.dimensions) + 1))
        ]
        self._alike = {len(space.dimensions): 1}  # sizes that depend on no earlier value
        self._memo: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        self._numbers: dict[str, int | None] = {}
        self.size = self._size(0, {}) * len(self._seeds)

    def __getitem__(self, number: int) -> Point:
        if not 0 <= number < self.size:
            raise IndexError(number)
        number, seed = divmod(number, len(self._seeds))
        values: Values = {}
        rendered: dict[str, str] = {}
        for depth, dimension in enumerate(self._dimensions):
            if not dimension.exists(rendered):
                continue
            place, number = self._place(depth, dimension, rendered, number)
            values[dimension.key] = dimension.value_at(place)
            self._note(depth, place, rendered)
        return values, self._seeds[seed]

    def __iter__(self) -> Iterator[Point]:
        return map(self.__getitem__, range(self.size))

    def number_of(self, name: str) -> int | None:
        """The number of the point of that name; None if it is none of the grid's."""
        if name not in self._numbers:
            is_point = name.startswith("[")  # else that of a trial without one, or a confirmation
            self._numbers[name] = self._number(*json.loads(name)) if is_point else None
        return self._numbers[name]

    def _number(self, values: dict[str, Any], seed: int | None) -> int | None:
        if seed not in self._seed_places:
            return None
        number, rendered = 0, dict[str, str]()
        for depth, dimension in enumerate(self._dimensions):
            if not dimension.exists(rendered):
                continue
            place = self._place_of(depth, values.pop(dimension.key, None))
            if place is None:
                return None
            number += self._before(depth, dimension, rendered, place)
            self._note(depth, place, rendered)
        if values:
            return None
        return number * len(self._seeds) + self._seed_places[seed]

    def _note(self, depth: int, place: int, rendered: dict[str, str]) -> None:
        """Add the text of a value where later dimensions depend on it."""
        dimension = self._dimensions[depth]
        if dimension.key in self._decisive[depth + 1]:
            rendered[dimension.key] = dimension.render(dimension.value_at(place))

    def _place_of(self, depth: int, value: Any) -> int | None:
        """The place of a value, as a name has it, among those of a dimension."""
        places = self._places[depth]
        if places is None:
            return self._dimensions[depth].place_of(value)
        return places.get(_key(value))

    def _place(
        self, depth: int, dimension: Dimension, rendered: Mapping[str, str], number: int
    ) -> tuple[int, int]:
        """Whose points a number is among, and its number among these."""
        if dimension.key not in self._decisive[depth + 1]:
            return divmod(number, self._size(depth + 1, rendered))
        starts = self._starts(depth, rendered)
        place = bisect_right(starts, number) - 1
        return place, number - starts[place]

    def _before(
        self, depth: int, dimension: Dimension, rendered: Mapping[str, str], place: int
    ) -> int:
        """How many points there are with earlier values of a dimension."""
        if dimension.key not in self._decisive[depth + 1]:
            return place * self._size(depth + 1, rendered)
        return self._starts(depth, rendered)[place]

    def _size(self, depth: int, rendered: Mapping[str, str]) -> int:
        """How many points the dimensions from a depth on have, without seeds."""
        if depth in self._alike:
            return self._alike[depth]
        dimension = self._dimensions[depth]
        if dimension.exists(rendered):
            size = self._before(depth, dimension, rendered, dimension.size)
        else:
            size = self._size(depth + 1, rendered)
        if not self._decisive[depth]:
            self._alike[depth] = size
        return size

    def _starts(self, depth: int, rendered: Mapping[str, str]) -> list[int]:
        """The first number of each value of a dimension that others depend on; at last the end."""
        state = depth, tuple(rendered.get(key, _ABSENT) for key in self._decisive[depth])
        if state not in self._memo:
            dimension = self._dimensions[depth]
            texts = map(dimension.render, dimension.values())
            sizes = (self._size(depth + 1, {**rendered, dimension.key: text}) for text in texts)
            self._memo[state] = [0, *itertools.accumulate(sizes)]
        return self._memo[state]


class Remaining:
    """The points of a grid that no trial has taken.

    Args:
        grid: all of them.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._ended: set[int] = set()
        self._open: set[int] = set()
        self._known = 0
        self._low = 0

    def update(self, ended: Mapping[str, object], open_: Iterable[str]) -> None:
        """Take in what has become of the study.

        Args:
            ended: by the names of points that stay taken; new ones only ever follow the others,
                so that those are looked at once.
            open_: names of points that are taken now.
        """
        new = itertools.islice(ended, self._known, None)
        self._ended.update(self._numbers(new))
        self._known = len(ended)
        self._open = {number for number in self._numbers(open_) if number not in self._ended}

    @property
    def count(self) -> int:
        """How many there are."""
        return self._grid.size - len(self._ended) - len(self._open)

    def first(self) -> Point | None:
        """The first in the order of the grid; None if there is none."""
        while self._low in self._ended:
            self._low += 1
        number = self._low
        while number in self._ended or number in self._open:
            number += 1
        return self._grid[number] if number < self._grid.size else None

    def draw(self, generator: random.Random) -> Point:
        """One of them, each with the same chance."""
        taken = sorted(self._ended | self._open)
        rank = generator.randrange(self.count)
        # As many taken points lie before it as have fewer free ones than `rank` before them.
        before = bisect_right(range(len(taken)), rank, key=lambda i: taken[i] - i)
        return self._grid[rank + before]

    def _numbers(self, names: Iterable[str]) -> Iterator[int]:
        return (n for n in map(self._grid.number_of, names) if n is not None)


def _places(dimension: Dimension) -> dict[Hashable, int] | None:
    """By value; None where there are many, which are numbers with a step."""
    is_choice = isinstance(dimension.distribution, CategoricalDistribution)
    if not is_choice and dimension.size > _MOST_KEPT:
        return None
    return {_key(value): place for place, value in enumerate(dimension.values())}


def _key(value: Hashable) -> Hashable:
    """As the name of a point has a value: 1 and 1.0 are one, 1 and true are not."""
    return isinstance(value, bool), value
