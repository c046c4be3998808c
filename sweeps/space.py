"""The search space that the overrides of a command line describe.

Built on Hydra's override grammar and on hydra-optuna-sweeper's reading of it: `x=a,b`,
`x=range(1,5)`, `x=interval(0,1)`, `x=tag(log,interval(1e-4,1e-2))`, `x=glob(*)`; everything else
passes through.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.errors import UserError
from experiments.grammar import key_of

if TYPE_CHECKING:
    from sweeps.priors import Prior

SEED_KEY = "seed"
MOST_VALUES = 1_000_000
"""Of a key that a sweep lists."""
EVERYWHERE = "experiments"  # the group whose options set keys anywhere
NOT_SWEPT = {
    "name": "it names the sweep; start one command for each name",
    "objective": "trials are compared by it; several objectives are a list: objective=[psnr,ssim]",
    "sweep.file": "it says what is searched; start one command for each file",
}

Values = dict[str, Any]
"""Of the dimensions of a trial, by key; what Optuna stores."""


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
        if self.enumerated and math.isfinite(self.count):
            _refuse_too_many(self.count, f"`{self.key}`")

    @property
    def count(self) -> float:
        """How many values there are; infinite for those of an interval of real numbers."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return len(self.listed or distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        if distribution.step is None:
            return math.inf
        return round((distribution.high - distribution.low) / distribution.step) + 1

    def values(self) -> Sequence[Any]:
        """All of them, in the order given.

        Raises:
            UserError: there are infinitely many.
        """
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return list(self.listed or distribution.choices)
        if isinstance(distribution, IntDistribution):
            return range(distribution.low, distribution.high + 1, distribution.step)
        assert isinstance(distribution, FloatDistribution)
        low, step = distribution.low, distribution.step
        if step is None:
            raise UserError(
                f"a grid must have discrete values, but `{self.key}` is an interval; "
                f"list the values ({self.key}=1e-3,3e-4) or choose another sampler"
            )
        return [float(f"{low + i * step:.12g}") for i in range(int(self.count))]

    def render(self, value: Any) -> str:
        """A value as the override grammar writes it."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.texts[self.distribution.choices.index(value)]
        return repr(value)


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
        """Whether there are so few combinations that one might be drawn twice."""
        return all(d.count <= MOST_VALUES for d in self.dimensions)

    def fill(self, draw: Callable[[Dimension], Any]) -> Values:
        """Values for every dimension that exists, each drawn after those it depends on."""
        values: Values = {}
        rendered: dict[str, str] = {}
        for dimension in self.dimensions:
            if all(condition.holds(rendered) for condition in dimension.conditions):
                value = draw(dimension)
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

    def cells(self) -> Iterator[tuple[Values, int | None]]:
        """Every combination once, the last dimension fastest, and the seeds fastest of all."""
        for values in _product(self.dimensions, {}, {}):
            for seed in self.seeds or (None,):
                yield values, seed

    def cell_count(self, limit: int) -> int:
        """How many cells there are, or `limit` if there are more."""
        return sum(1 for _ in itertools.islice(self.cells(), limit))

    def describe(self) -> dict[str, Any]:
        """The dimensions as plain values, to store and to compare."""
        from optuna.distributions import distribution_to_json

        return {d.key: json.loads(distribution_to_json(d.distribution)) for d in self.dimensions}


def cell_name(values: Mapping[str, Any], seed: int | None) -> str:
    """A text that is the same for the same values and seed only."""
    return json.dumps([dict(sorted(values.items())), seed], default=repr)


def cell_seed(name: str) -> int | None:
    """The seed in a cell's name."""
    seed: int | None = json.loads(name)[1]
    return seed


def parse(overrides: Sequence[str], config_loader: Any = None) -> Space:
    """The search space of some overrides, the later of two for the same key counting.

    Conditions are not known yet: see `conditional`.

    Raises:
        UserError: a sweep is empty, or over a key that cannot be swept.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    seeds: tuple[int, ...] = ()
    parser = OverridesParser.create(config_loader=config_loader)
    for override in parser.parse_overrides(list(overrides)):
        key = override.get_key_element()
        dimensions.pop(key, None)
        fixed.pop(key, None)
        seeds = () if key == SEED_KEY else seeds
        if key == SEED_KEY and (override.is_sweep_override() or isinstance(override.value(), int)):
            seeds = _seeds(override)
        elif override.is_sweep_override():
            dimensions[key] = _dimension(key, override)
        else:
            fixed[key] = override.input_line or ""
    return Space(tuple(dimensions.values()), seeds, tuple(Fixed(text) for text in fixed.values()))


def conditional(
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


def _seeds(override: Any) -> tuple[int, ...]:
    _refuse_long_range(override)
    if override.is_interval_sweep():
        raise UserError("`seed` must be listed (seed=1,2,3): a sampler never optimises over it")
    listed = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    values = tuple(dict.fromkeys(listed))
    if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise UserError(f"`seed` must be integers, but got {override.input_line}")
    return values


def _refuse_too_many(count: float, what: str) -> None:
    """Refuse more values than can be listed; a file could otherwise ask for any memory.

    Raises:
        UserError: there are too many.
    """
    if count > MOST_VALUES:
        raise UserError(
            f"a sweep must list at most {MOST_VALUES:,} values of a key, but {what} has "
            f"{count:,.0f}; take larger steps, or an interval: interval(LOW,HIGH)"
        )


def _refuse_long_range(override: Any) -> None:
    """Before Hydra lists what `range` says."""
    from hydra.core.override_parser.types import RangeSweep

    value = override.value()
    if isinstance(value, RangeSweep) and value.step:
        count = (float(value.stop or 0) - float(value.start or 0)) / value.step
        _refuse_too_many(count, override.input_line)


def _dimension(key: str, override: Any) -> Dimension:
    from hydra.core.override_parser.types import Transformer
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    if key.lstrip("+") in NOT_SWEPT:
        raise UserError(f"`{key}` cannot be swept: {NOT_SWEPT[key.lstrip('+')]}")
    _refuse_long_range(override)
    if override.is_discrete_sweep():
        elements = list(override.sweep_iterator(transformer=Transformer.identity))
        if not elements:
            raise UserError(f"a sweep must have values, but {override.input_line} has none")
        ordered = override.is_choice_sweep() or getattr(override.value(), "shuffle", False)
        if ordered or getattr(override.value(), "transformers", None):
            # By text, since 1 and True are equal; shuffled once, here.
            by_text = {Transformer.str(element): element for element in elements}
            choices = [Transformer.encode(element) for element in by_text.values()]
            return Dimension(key, CategoricalDistribution(choices), tuple(map(str, by_text)))
    try:
        distribution = create_optuna_distribution_from_override(override)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{override.input_line} is no search space: {error}") from error
    texts: tuple[str, ...] = ()
    if isinstance(distribution, CategoricalDistribution):
        texts = tuple(str(choice) for choice in distribution.choices)
    return Dimension(key, distribution, texts, enumerated=not override.is_interval_sweep())


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


def _product(
    dimensions: Sequence[Dimension], values: Values, rendered: dict[str, str]
) -> Iterator[Values]:
    if not dimensions:
        yield dict(values)
        return
    first, rest = dimensions[0], dimensions[1:]
    if not all(condition.holds(rendered) for condition in first.conditions):
        yield from _product(rest, values, rendered)
        return
    for value in first.values():
        if isinstance(value, float) and math.isnan(value):
            continue
        yield from _product(
            rest,
            {**values, first.key: value},
            {**rendered, first.key: first.render(value)},
        )
