"""Keys of a search that exist only where others have some values.

Some conditions follow from the config (`implied`: only some losses have a `window_size`), others
the user states (`stated`: `hydra.sweeper.conditions`, a key to OTHER=VALUES).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import CategoricalDistribution

from experiments.cli.grammar import key_of
from experiments.errors import UserError
from sweeps.space.dimensions import Condition, Dimension, Fixed, Space, dependencies_first
from sweeps.space.grammar import parse
from sweeps.space.grid import Grid
from sweeps.space.points import Values

EVERYWHERE = "experiments"
"""The group whose options set keys anywhere."""

log = logging.getLogger(__name__)

_SETTING = "hydra.sweeper.conditions"
_NEVER = Condition((), frozenset())
_MOST_NAMED = 20  # values in a message


def implied(
    space: Space,
    *,
    exists: Callable[[str, Sequence[str]], bool],
    is_group: Callable[[str], bool],
) -> Space:
    """The space with the conditions that follow from the config.

    A key that only some choices of a swept group have (`loss.window_size` with `loss=ssim,mse`)
    is a dimension, or a fixed override, of those choices only. So is what adds to such a key
    (`+loss.options.gamma=2`) or removes it (`~loss.window_size`).

    Args:
        space: as parsed.
        exists: whether a key is part of the config that some overrides compose.
        is_group: whether a key is a config group.

    Raises:
        UserError: a key exists for no choice.
    """
    groups = [d for d in space.dimensions if is_group(d.key)]
    plain_fixed = [f.text for f in space.fixed if not _groups_of(f.text, groups)]

    def found(override: str) -> tuple[Condition, ...]:
        asked = _groups_of(override, groups)
        return _existence(_needed(override), asked, plain_fixed, exists) if asked else ()

    dimensions = [replace(d, conditions=found(d.key)) for d in space.dimensions]
    fixed = [Fixed(f.text, found(f.text)) for f in space.fixed]
    return Space(tuple(dependencies_first(dimensions)), space.seeds, tuple(fixed))


def _needed(override: str) -> str:
    """What must exist for an override to apply: what it changes, removes, or adds something to."""
    name = key_of(override)
    return name.rpartition(".")[0] if override.startswith("+") else name


def node_of(group: Dimension) -> str:
    """The key of the config that a group fills."""
    return group.key.lstrip("+").partition("@")[0].replace("/", ".")


def _groups_of(override: str, groups: Collection[Dimension]) -> list[Dimension]:
    """The swept groups that decide whether an override applies.

    A group whose options set keys anywhere, as experiments do, may bring any key with it.
    """
    needed = _needed(override)
    if "." not in needed:
        return []
    return [g for g in groups if node_of(g) == EVERYWHERE or needed.startswith(f"{node_of(g)}.")]


def _existence(
    name: str,
    groups: Sequence[Dimension],
    fixed: Sequence[str],
    exists: Callable[[str, Sequence[str]], bool],
) -> tuple[Condition, ...]:
    combinations = list(itertools.product(*(group.texts for group in groups)))
    keys = tuple(group.key for group in groups)
    having = [
        texts
        for texts in combinations
        if exists(name, [*fixed, *(f"{k}={t}" for k, t in zip(keys, texts, strict=True))])
    ]
    if not having:
        choices = " ".join(f"{g.key}={','.join(g.texts)}" for g in groups)
        raise UserError(f"`{name}` is not a key of the config with any of {choices}")
    if len(having) == len(combinations):
        return ()
    return (Condition(keys, frozenset(having)),)


def stated(space: Space, conditions: Mapping[str, str], loader: Any = None) -> Space:
    """The space where keys exist only under conditions.

    A condition on a key with a fixed value is decided at once.

    Args:
        space: that is searched.
        conditions: key to "other_key=value,value".
        loader: of Hydra, which `glob` asks.

    Raises:
        UserError: a condition is about a key or a value that is not searched, can never hold, or
            is no condition.
    """
    dimensions = {key_of(d.key): d for d in space.dimensions}
    fixed = {key_of(f.text): f for f in space.fixed}
    found = {
        key_of(key): _condition(key_of(key), text, dimensions, fixed, loader)
        for key, text in conditions.items()
    }

    def of(key: str) -> tuple[Condition, ...]:
        condition = found.get(key_of(key))
        return () if condition is None else (condition,)

    possible, absent = _possible(
        [replace(d, conditions=d.conditions + of(d.key)) for d in space.dimensions]
    )
    options = [Fixed(f.text, f.conditions + of(f.text)) for f in space.fixed]
    narrowed = Space(
        tuple(dependencies_first(possible)),
        space.seeds,
        tuple(f for f in options if not _is_never(f.conditions, absent)),
    )
    _refuse_contradictions(narrowed, found)
    return narrowed


def where(space: Space, conditions: Sequence[Condition]) -> Values | None:
    """The first values of the dimensions of some conditions with which all of these hold.

    With those of the dimensions that they depend on in turn; None if there are no such values.
    """
    by_key = {dimension.key: dimension for dimension in space.dimensions}
    wanted = [key for condition in conditions for key in condition.keys]
    for key in wanted:  # which grows
        wanted += [k for c in by_key[key].conditions for k in c.keys if k not in wanted]
    others = Space(tuple(d for d in space.dimensions if d.key in wanted))
    for values, _ in Grid(others):
        rendered = {key: by_key[key].render(value) for key, value in values.items()}
        if all(condition.holds(rendered) for condition in conditions):
            return values
    return None


def _condition(
    key: str,
    text: str,
    dimensions: Mapping[str, Dimension],
    fixed: Mapping[str, Fixed],
    loader: Any,
) -> Condition | None:
    """None if it always holds."""
    searched = {*dimensions, *fixed}
    if key not in searched:
        raise UserError(
            f"`{_SETTING}` must be about keys of the search, but {key!r} is none of "
            f"{', '.join(dimensions) or 'them: there are none'}"
        )
    name = key_of(text)
    if "=" not in text or name == key or name not in searched:
        raise _malformed(key, text, f"; searched are {', '.join(dimensions)}")
    other = dimensions.get(name)
    wanted = _alternatives(key, text, loader)
    if other is None:
        (given,) = _alternatives(key, fixed[name].text, loader).values()
        if _among(given, wanted.values()):
            return None
        log.warning("`%s` is left out: it needs %s, but got %s", key, text, fixed[name].text)
        return _NEVER
    if not other.enumerated and not isinstance(other.distribution, CategoricalDistribution):
        raise UserError(
            f"`{_SETTING}.{key}` must name a key whose values are listed, but `{other.key}` is an "
            "interval"
        )
    _refuse_others(key, text, wanted, other)
    meant = [other.render(value) for value in other.values() if _among(value, wanted.values())]
    return Condition((other.key,), frozenset((text,) for text in meant))


def _malformed(key: str, text: str, more: str = "") -> UserError:
    return UserError(
        f"`{_SETTING}.{key}` must be KEY=VALUES of another key of the search, but got {text!r}"
        f"{more}"
    )


def _refuse_others(key: str, text: str, wanted: Dimension, other: Dimension) -> None:
    for value in wanted.values():
        if not _among(value, other.values()):
            known = ", ".join(map(other.render, other.values()[:_MOST_NAMED]))
            more = ", ..." if other.size > _MOST_NAMED else ""
            raise UserError(
                f"`{_SETTING}.{key}` must name values that are searched, but got {text!r}, and "
                f"{wanted.render(value)} is none of {other.key}'s: {known}{more}"
            )


def _alternatives(key: str, text: str, loader: Any) -> Dimension:
    """The values of an override, be they several or one, as those of a dimension."""
    from hydra.errors import HydraException

    name, _, value = text.partition("=")
    try:
        found = parse([text], loader).dimensions or parse([f"{name}=choice({value})"]).dimensions
    except (HydraException, ValueError) as error:
        raise _malformed(key, text) from error
    if not found or not found[0].enumerated:
        raise UserError(f"`{_SETTING}.{key}` must list the values of {name}, but got {text!r}")
    return found[0]


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


def _refuse_contradictions(space: Space, stated_of: Mapping[str, Condition | None]) -> None:
    """A key of which the config and a stated condition want different values of another."""
    for text, conditions in (
        *((d.key, d.conditions) for d in space.dimensions),
        *((f.text, f.conditions) for f in space.fixed),
    ):
        if stated_of.get(key_of(text)) is not None and where(space, conditions) is None:
            raise UserError(
                f"`{_SETTING}.{key_of(text)}` must hold with some values of the search, but the "
                "config has the key with others only"
            )
