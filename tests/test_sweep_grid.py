"""Points of a space: one name each, and grids of any size that are indexed, not listed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from experiments.errors import UserError
from sweeps.space.dimensions import Condition, Dimension, Space
from sweeps.space.grammar import parse
from sweeps.space.grid import Grid, Remaining
from sweeps.space.points import canonical, canonical_name, is_name, point_name, point_seed

TENTHS = FloatDistribution(0.1, 0.9, step=0.1)


def spaces() -> Iterator[Space]:
    """Search spaces with and without conditions, also conditions on what may not exist."""
    yield Space(())
    yield parse(["a=1,2"])
    yield parse(["a=x,y,true,1,1.5,null", "b=range(0.1,1.0,0.1)", "seed=5,3"])
    yield parse(["a=range(7,-8,-5)", "b=range(-0.3,0.4,0.1)", "c=1"])
    a, b, c, d = parse(["a=x,y,z", "b=1,2", "c=range(0,3)", "d=p,q,r"]).dimensions

    def where(dimension: Dimension, *conditions: Condition) -> Dimension:
        return Dimension(
            dimension.key, dimension.distribution, dimension.texts, conditions=conditions
        )

    a_is_y = Condition(("a",), frozenset({("y",)}))
    b_is_2 = Condition(("b",), frozenset({("2",)}))
    both = Condition(("a", "c"), frozenset({("x", "0"), ("y", "2"), ("z", "")}))
    yield Space((a, where(b, a_is_y), where(c, b_is_2), d), (1, 2))
    yield Space((a, b, where(c, a_is_y, b_is_2), where(d, both)))


def listed(space: Space) -> list[tuple[dict[str, Any], int | None]]:
    """Every point by brute force."""
    found = []
    for combination in itertools.product(*(d.values() for d in space.dimensions)):
        drawn = dict(zip((d.key for d in space.dimensions), combination, strict=True))
        values = space.fill(lambda d, drawn=drawn: drawn[d.key])  # type: ignore[misc]
        if values not in found:
            found.append(values)
    return [(values, seed) for values in found for seed in space.seeds or (None,)]


@pytest.mark.parametrize("space", [*spaces()])
def test_a_grid_has_every_point_once_by_its_number_and_by_its_name(space: Space) -> None:
    grid, expected = Grid(space), listed(space)
    assert [(point_name(*p), p) for p in grid] == [(point_name(*p), p) for p in expected]
    assert grid.size == len(expected)
    assert [grid.number_of(point_name(*point)) for point in grid] == list(range(grid.size))


def test_what_is_no_point_of_a_grid_has_no_number() -> None:
    grid = Grid(parse(["a=x,y", "b=range(0,10,5)", "c=range(0.5,2.0,0.5)", "seed=1,2"]))
    point = {"a": "x", "b": 5, "c": 0.5}
    assert grid.number_of(point_name(point, 1)) is not None
    for values, seed in (
        ({**point, "a": "z"}, 1),
        ({**point, "b": 4}, 1),
        ({**point, "b": 10}, 1),
        ({**point, "c": 0.6}, 1),
        ({**point, "b": "5"}, 1),
        ({**point, "b": True}, 1),
        ({**point, "d": 1}, 1),
        ({"a": "x"}, 1),
        (point, 3),
        (point, None),
    ):
        assert grid.number_of(point_name(values, seed)) is None, (values, seed)
    assert grid.number_of("trial 3") is None
    many = Grid(parse(["a=range(0,1000000)", "b=range(0.0,1.0,0.00001)"]))
    for strange in (float("inf"), "x", None, True, 0.5e-7, -1, 10**9):
        assert many.number_of(point_name({"a": 1, "b": strange}, None)) is None
        assert many.number_of(point_name({"a": strange, "b": 0.5}, None)) is None
    assert many.number_of(point_name({"a": 1, "b": 0.5}, None)) == 150_000
    with pytest.raises(IndexError):
        grid[grid.size]


def test_a_grid_of_any_size_is_indexed_at_once() -> None:
    overrides = [f"k{i}=range(0,1000000)" for i in range(4)]
    grid = Grid(parse([*overrides, "x=range(0.0,1.0,0.000001)", "seed=range(0,3)"]))
    assert grid.size == 3 * 10**30
    for number in (0, grid.size // 7, grid.size - 1):
        assert grid.number_of(point_name(*grid[number])) == number
    remaining = Remaining(grid)
    remaining.update(dict.fromkeys([point_name(*grid[0])]), [point_name(*grid[1])])
    assert remaining.count == grid.size - 2
    assert remaining.first() == grid[2]


def test_a_grid_whose_conditions_are_about_many_values_is_indexed_too() -> None:
    many, few = parse(["a=range(0,20000)", "b=p,q,r"]).dimensions
    some = Condition(("a",), frozenset((str(a),) for a in range(5000, 20000, 5000)))
    few = Dimension(few.key, few.distribution, few.texts, conditions=(some,))
    grid = Grid(Space((many, few)))
    assert grid.size == 20000 + 3 * 2
    for number in (0, 4999, 5000, 5002, 5003, 10004, grid.size - 1):
        assert grid.number_of(point_name(*grid[number])) == number
    assert grid[5001] == ({"a": 5000, "b": "q"}, None)


@pytest.mark.parametrize("space", [*spaces()])
def test_what_remains_is_the_difference_whoever_takes_and_gives_back(space: Space) -> None:
    grid, draw = Grid(space), random.Random(0)
    names = [point_name(*point) for point in grid]
    remaining, ended = Remaining(grid), dict[str, None]()
    for _ in range(60):
        open_ = set(draw.sample(names, draw.randint(0, len(names))))
        ended.update(dict.fromkeys(draw.sample(names, min(len(names), draw.randint(0, 1)))))
        remaining.update(ended, open_)
        left = [name for name in names if name not in ended and name not in open_]
        assert remaining.count == len(left)
        first = remaining.first()
        assert (first and point_name(*first)) == (left[0] if left else None)
        if left:
            assert {point_name(*remaining.draw(draw)) for _ in range(20 * len(left))} == set(left)


def test_points_of_other_grids_take_nothing() -> None:
    remaining = Remaining(Grid(parse(["a=1,2"])))
    remaining.update({point_name({"a": 3}, None): None, "trial 0": None}, ["confirm x"])
    assert remaining.count == 2


@pytest.mark.parametrize("step", [0.1, 0.05, 0.7, 1e-7, 0.3])
@pytest.mark.parametrize("low", [0.1, -0.3, 1e-7, -1e6])
def test_a_number_with_a_step_has_one_form_however_it_was_computed(low: float, step: float) -> None:
    high = float(Decimal(repr(low)) + 20 * Decimal(repr(step)))
    distribution = FloatDistribution(low, high, step=step)
    dimension = Dimension("x", distribution)
    values = dimension.values()
    assert len(set(values)) == len(values) == dimension.size
    for place, value in enumerate(values):
        summed = low
        for _ in range(place):
            summed += step
        for computed in (low + place * step, summed, value):
            assert canonical(computed, distribution) == value
            assert dimension.render(computed) == repr(value)
        assert dimension.place_of(value) == place


def test_a_range_has_the_decimals_that_were_typed() -> None:
    (dimension,) = parse(["beta=range(0.1,1.0,0.1)"]).dimensions
    assert dimension.values() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    (dimension,) = parse(["beta=range(-0.3,0.4,0.1)"]).dimensions
    assert dimension.values() == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]


def test_a_point_of_an_older_study_is_the_same_point() -> None:
    old = '[{"beta": 0.30000000000000004, "loss": "mse"}, 3]'
    new = point_name({"loss": "mse", "beta": 0.3}, 3)
    assert canonical_name(old, {"beta": TENTHS}) == new
    zero = FloatDistribution(-0.3, 0.3, step=0.1)
    nearly = '[{"beta": 5.551115123125783e-17}, null]'
    assert canonical_name(nearly, {"beta": zero}) == point_name({"beta": 0.0}, None)
    assert canonical_name('[{"beta": 1.0}, null]', {}) == point_name({"beta": 1}, None)
    assert canonical_name("of another version", {}) == "of another version"


def test_names_tell_what_differs_and_only_that() -> None:
    assert point_name({"a": 1, "b": 2}, 3) == point_name({"b": 2, "a": 1}, 3)
    assert point_name({"a": 1}, 3) == point_name({"a": 1.0}, 3)
    assert point_name({"a": 0.0}, 3) == point_name({"a": -0.0}, 3)
    different = [1, 1.5, "1", True, "true", None, 1e300, float("inf")]
    names = {point_name({"a": value}, seed) for value in different for seed in (None, 1)}
    assert len(names) == 2 * len(different)
    assert point_seed(point_name({"a": 1}, 7)) == 7
    assert all(map(is_name, names))
    assert not any(map(is_name, ["", "x", "[]", "[1, 2]", '[{}, "1"]', "{}", None]))


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("beta=1,1.0,2", [1, 2]),
        ("beta=0.5,5e-1", [0.5]),
        ("loss=ssim,'ssim',\"ssim\"", ["ssim"]),
        ("x=1,true", ["1", "True"]),
        ("x=1,'1'", [1, "'1'"]),
    ],
)
def test_a_value_that_is_written_twice_is_one(override: str, values: list[Any]) -> None:
    (dimension,) = parse([override]).dimensions
    assert dimension.values() == values
    assert len({dimension.render(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("x=range(1.0,1.0000000000000004,0.0000000000000001)", "must be distinct"),
        ("x=shuffle(range(1.0,1.0000000000000004,0.0000000000000001))", "must be distinct"),
        ("x=range(1e16,1e17,0.1)", "must be distinct"),
        ("x=range(0,3),7", "has a range or an interval among"),
        ("seed=range(0,2),1", "must be integers"),
        ("x=1,nan", "must equal itself"),
    ],
)
def test_points_that_are_the_same_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse([override])
    assert "\n" not in str(caught.value)
