"""Asking Hydra what a search would compose, before any trial."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments import config as configs
from experiments.cli.grammar import key_of
from experiments.errors import UserError
from experiments.record import flat
from experiments.record.identity import is_relevant
from experiments.terminal import message_of
from sweeps.space.conditions import EVERYWHERE, implied, node_of, stated, where
from sweeps.space.dimensions import SEED_KEY, Dimension, Space
from sweeps.space.grammar import parse
from sweeps.space.jobs import without_hydra
from sweeps.space.loader import has_key
from sweeps.space.points import Values

_MOST_PROBES = 200
_NOTHING = Space(())


class Composer:
    """Composes configs of a multirun.

    Args:
        loader: Hydra's.
        config: the composed config of the sweep.
    """

    def __init__(self, loader: Any, config: Any) -> None:
        self._loader, self._config = loader, config

    def compose(self, overrides: Sequence[str]) -> Any:
        """The config of a trial, with its `hydra` node.

        Raises:
            UserError: there is none.
        """
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            return self._loader.load_sweep_config(self._config, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(str(message_of(error))) from error

    def plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The checked plain values of a trial.

        Raises:
            UserError: a value breaks its rule.
        """
        return configs.plain(without_hydra(self.compose(overrides)))

    def container(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The values of a trial, unchecked and with interpolations as they are."""
        from omegaconf import OmegaConf

        values = OmegaConf.to_container(self.compose(overrides), resolve=False)
        assert isinstance(values, dict)
        return {str(key): value for key, value in values.items() if key != "hydra"}

    def has(self, key: str, overrides: Sequence[str]) -> bool:
        """Whether a dotted key means something in the config that the overrides compose."""
        config = self.compose(overrides)
        return has_key(config, key) and configs.is_meant(key, config)

    def is_group(self, key: str) -> bool:
        """Whether a key chooses a file of a config group."""
        name = key.lstrip("+").partition("@")[0]
        return "." not in name and bool(self._loader.get_group_options(name))

    def space(
        self,
        params: Mapping[str, Any],
        arguments: Sequence[str],
        conditions: Mapping[str, str],
        base: Space = _NOTHING,
    ) -> Space:
        """The search space of a preset and a command line, which wins.

        Args:
            params: the preset, key to choices.
            arguments: overrides of the command line.
            conditions: key to "other_key=values".
            base: a space beneath both, taken as it is.

        Raises:
            UserError: it is no search space.
        """
        preset = [f"{key}={_text(value)}" for key, value in params.items()]
        above = parse([*preset, *arguments], self._loader)
        space = implied(_together(base, above), exists=self.has, is_group=self.is_group)
        space = self._with_integers(space, {d.key for d in base.dimensions} - _told(above))
        return stated(space, conditions, self._loader)

    def _with_integers(self, space: Space, exact: Collection[str]) -> Space:
        """Hydra reads every interval as one of real numbers; a key of integers wants integers.

        Args:
            space: with its conditions.
            exact: keys whose distribution was said exactly, so that it must be right.
        """

        def of_its_key(dimension: Dimension) -> Dimension:
            distribution = dimension.distribution
            if not isinstance(distribution, FloatDistribution):
                return dimension
            if dimension.key in exact:
                if self._is_whole(dimension, space):
                    raise UserError(
                        f"`{dimension.key}` must be a whole number, but its distribution gives "
                        "others as well; take int_uniform, q_uniform with a whole q, or values"
                    )
                return dimension
            low, high = distribution.low, distribution.high
            if dimension.enumerated or low % 1 or high % 1 or not self._is_whole(dimension, space):
                return dimension
            integers = IntDistribution(int(low), int(high), log=distribution.log)
            return replace(dimension, distribution=integers)

        return replace(space, dimensions=tuple(of_its_key(d) for d in space.dimensions))

    def _is_whole(self, dimension: Dimension, space: Space) -> bool:
        """Whether the config has an integer at the key of a dimension, where that exists.

        The fixed overrides belong to it: some bring the key, and a preset of the search itself is
        one of them, without which Hydra finds the sweeper's settings changed and refuses.
        """
        fixed = [f.text for f in space.fixed if not f.conditions]
        needed = where(space, dimension.conditions) or {}
        chosen = [f"{d.key}={d.render(needed[d.key])}" for d in space.dimensions if d.key in needed]
        return type(flat(self.container([*fixed, *chosen])).get(key_of(dimension.key))) is int

    def check(self, space: Space) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """Compose every value of every dimension once, so that mistakes are told before a trial.

        Returns:
            The composed configs, as `plain` has them, and the fixed options of each choice of a
            searched group, see `sweeps.study.definition.Options`.

        Raises:
            UserError: a value is none that its key may have.
        """
        seen: set[tuple[str, ...]] = set()
        groups = [d for d in space.dimensions if self.is_group(d.key)]
        options: dict[str, dict[str, Any]] = {}
        composed = []
        for values in probes(space):
            overrides = space.overrides(values, space.seeds[0] if space.seeds else None)
            if tuple(overrides) not in seen and len(seen) < _MOST_PROBES:
                seen.add(tuple(overrides))
                composed.append(self.plain(overrides))
                config = flat(composed[-1])
                for group in (g for g in groups if g.key in values):
                    choice = f"{group.key}={group.render(values[group.key])}"
                    options.setdefault(choice, _options(config, group, space))
        return composed, {} if any(node_of(g) == EVERYWHERE for g in groups) else options


def probes(space: Space) -> Iterator[Values]:
    """Values for all dimensions, among which each value (or end of an interval) occurs."""
    yield space.fill(lambda dimension: some_values(dimension)[0])
    for dimension in space.dimensions:
        needed = where(space, dimension.conditions) or {}
        for value in some_values(dimension):
            forced = {**needed, dimension.key: value}
            yield space.fill(lambda d, forced=forced: forced.get(d.key, some_values(d)[0]))  # type: ignore[misc]


def some_values(dimension: Dimension) -> list[Any]:
    """All values of a dimension or, of an interval, its ends."""
    distribution = dimension.distribution
    if isinstance(distribution, CategoricalDistribution):
        return list(dimension.values())
    ends = [distribution.low, distribution.high]  # type: ignore[attr-defined]
    return list(dict.fromkeys(ends))


def _options(config: Mapping[str, Any], group: Dimension, space: Space) -> dict[str, Any]:
    searched = {dimension.key.lstrip("+") for dimension in space.dimensions}
    return {
        key: value
        for key, value in config.items()
        if key.startswith(f"{node_of(group)}.") and is_relevant(key) and key not in searched
    }


def _told(space: Space) -> set[str]:
    """The keys that a space is about."""
    return {
        key_of(text)
        for text in (*(d.key for d in space.dimensions), *(f.text for f in space.fixed))
    }


def _together(base: Space, above: Space) -> Space:
    """Both spaces; of what both are about, the word of the one above counts."""
    told = _told(above)
    seeds = above.seeds or (() if SEED_KEY in told else base.seeds)
    dimensions = [d for d in base.dimensions if key_of(d.key) not in told]
    fixed = [f for f in base.fixed if key_of(f.text) not in told]
    return Space((*dimensions, *above.dimensions), seeds, (*fixed, *above.fixed))


def _text(value: Any) -> str:
    """A value of `hydra.sweeper.params` as an override: YAML may have made it a list or number."""
    from hydra.core.override_parser.types import Override

    return value if isinstance(value, str) else Override._get_value_element_as_str(value)
