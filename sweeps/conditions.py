"""Conditions that the user states: `hydra.sweeper.conditions`, a key to OTHER=VALUES.

Those that follow from the config itself are found by `sweeps.space.conditional`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.errors import UserError
from sweeps.space import Condition, Dimension, Fixed, Space, dependencies_first, parse

_SETTING = "hydra.sweeper.conditions"
_NEVER = Condition((), frozenset())


def stated(space: Space, conditions: Mapping[str, str], loader: Any = None) -> Space:
    """The space where keys exist only under conditions.

    A condition on a key with a fixed value is decided at once.

    Args:
        space: that is searched.
        conditions: key to "other_key=value,value".
        loader: of Hydra, which `glob` asks.

    Raises:
        UserError: a condition is about a key or a value that is not searched, or is no condition.
    """
    found = {key: _condition(key, text, space, loader) for key, text in conditions.items()}

    def of(key: str) -> tuple[Condition, ...]:
        condition = found.get(key)
        return () if condition is None else (condition,)

    dimensions = [replace(d, conditions=d.conditions + of(d.key)) for d in space.dimensions]
    fixed = [Fixed(f.text, f.conditions + of(_key(f))) for f in space.fixed]
    possible, absent = _possible(dimensions)
    return Space(
        tuple(dependencies_first(possible)),
        space.seeds,
        tuple(f for f in fixed if not _is_never(f.conditions, absent)),
    )


def _condition(key: str, text: str, space: Space, loader: Any) -> Condition | None:
    """None if it always holds."""
    dimensions = {d.key: d for d in space.dimensions}
    fixed = {_key(f): f.text for f in space.fixed}
    if key not in dimensions | fixed:
        raise UserError(
            f"`{_SETTING}` must be about keys of the search, but {key!r} is none of "
            f"{', '.join(dimensions) or 'them: there are none'}"
        )
    wanted = _alternatives(key, text, loader)
    if wanted.key == key or wanted.key not in dimensions | fixed:
        raise UserError(
            f"`{_SETTING}.{key}` must be KEY=VALUES of another key of the search, but got "
            f"{text!r}; searched are {', '.join(dimensions)}"
        )
    other = dimensions.get(wanted.key)
    if other is None:
        (given,) = _alternatives(key, fixed[wanted.key], loader).values()
        return None if _among(given, wanted.values()) else _NEVER
    if not other.enumerated:
        raise UserError(
            f"`{_SETTING}.{key}` must name a key whose values are listed, but `{other.key}` is an "
            "interval"
        )
    _refuse_others(key, text, wanted, other)
    meant = [other.render(value) for value in other.values() if _among(value, wanted.values())]
    return Condition((other.key,), frozenset((text,) for text in meant))


def _refuse_others(key: str, text: str, wanted: Dimension, other: Dimension) -> None:
    for value in wanted.values():
        if not _among(value, other.values()):
            known = ", ".join(map(other.render, other.values()))
            raise UserError(
                f"`{_SETTING}.{key}` must name values that are searched, but got {text!r}, and "
                f"{wanted.render(value)} is none of {other.key}'s: {known}"
            )


def _alternatives(key: str, text: str, loader: Any) -> Dimension:
    """The values of an override, be they several or one, as those of a dimension."""
    from hydra.errors import HydraException

    name, _, value = text.partition("=")
    try:
        several = parse([text], loader).dimensions
        (found,) = several or parse([f"{name}=choice({value})"], loader).dimensions
    except (HydraException, ValueError) as error:
        raise UserError(
            f"`{_SETTING}.{key}` must be KEY=VALUES of another key of the search, but got {text!r}"
        ) from error
    if not found.enumerated:
        raise UserError(f"`{_SETTING}.{key}` must list the values of {name}, but got {text!r}")
    return found


def _among(value: Any, values: Iterable[Any]) -> bool:
    return any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values)


def _possible(dimensions: Sequence[Dimension]) -> tuple[list[Dimension], set[str]]:
    """The dimensions that can exist, and the keys of the others."""
    absent: set[str] = set()
    while more := {
        d.key for d in dimensions if d.key not in absent and _is_never(d.conditions, absent)
    }:
        absent |= more
    return [d for d in dimensions if d.key not in absent], absent


def _is_never(conditions: Iterable[Condition], absent: set[str]) -> bool:
    return any(condition == _NEVER or absent & set(condition.keys) for condition in conditions)


def _key(fixed: Fixed) -> str:
    return fixed.text.partition("=")[0]
