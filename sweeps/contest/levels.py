"""What a sweep compares: each level is searched for itself, in turn with the others.

One search over all losses gives most trials to those that look good early, and hardly any to the
rest: whoever is worse has been tuned less. So each level has the same number of trials, a sampler
that chooses for it alone, and rungs of its own for pruning. Trials begin in turn, so that the
levels are equally far whenever the sweep is stopped; and the n-th trial of each level draws the
same random numbers, so that keys which all of them have get the same values at random, where no
condition changes the order in which they are drawn. A Gaussian process is told of the other
levels' trials as well, moved to where its own lie (see `sweeps.search.forecasts`); the levels then
draw different numbers, so that they teach each other more, and begin each round in another order,
so that none is always told first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from experiments.errors import UserError
from sweeps.space.dimensions import Dimension, Space
from sweeps.space.grid import Grid, Remaining
from sweeps.space.points import Values
from sweeps.storage.attributes import budgeted, level_of, name_of

_USUAL = "loss"


def compared_keys(space: Space, named: Sequence[str] | None) -> tuple[str, ...]:
    """The keys whose levels are searched, and confirmed, each for itself.

    Args:
        space: that is searched.
        named: by the user; None is the loss, where several are searched.

    Raises:
        UserError: a key that is named is not searched by several choices in every trial.
    """
    by_key = {dimension.key: dimension for dimension in space.dimensions}
    choices = choices_of(space)
    if named is None:
        return (_USUAL,) if _USUAL in choices else ()
    for key in named:
        if key not in choices:
            raise UserError(
                "`sweep.compare` must name keys of which several values are listed for every "
                f"trial ({', '.join(choices) or 'here there are none'}), but got {key!r}"
                f"{_why(by_key.get(key))}"
            )
    return tuple(dict.fromkeys(named))


def answered_keys(space: Space, compare: Sequence[str], *, grid: bool) -> tuple[str, ...]:
    """The keys about which a sweep gives an answer: those compared, or else a grid's first."""
    if compare or not grid:
        return tuple(compare)
    return choices_of(space)[:1]


def choices_of(space: Space) -> tuple[str, ...]:
    """The keys that can be compared: those of which every trial has one of several choices."""
    return tuple(d.key for d in space.dimensions if _is_compared(d))


def _is_compared(dimension: Dimension) -> bool:
    is_choice = isinstance(dimension.distribution, CategoricalDistribution)
    is_in_all = not dimension.conditions and dimension.prior is None
    return is_choice and dimension.size > 1 and is_in_all


def _why(dimension: Dimension | None) -> str:
    if dimension is None:
        return ", which is not searched"
    if not isinstance(dimension.distribution, CategoricalDistribution):
        return ", which has no list of values"
    if dimension.size < 2:
        return f", which has one value, {dimension.render(dimension.value_at(0))}"
    if dimension.prior is not None:
        return ", whose values have probabilities of their own"
    return ", which only some trials have"


def of_level(
    keys: Sequence[str], trial: FrozenTrial
) -> Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]:
    """What chooses, of a study's trials, those of the search that are of the same level as one."""
    level = level_of(trial, keys)

    def chosen(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [t for t in budgeted(trials) if level_of(t, keys) == level]

    return chosen


@dataclass
class _Level:
    name: str
    values: Values
    remaining: Remaining | None


class Levels:
    """The levels of a sweep whose sampler chooses trials.

    Args:
        space: that is searched.
        keys: that are compared; at least one.
        n_trials: of all levels together.
    """

    def __init__(self, space: Space, keys: Sequence[str], n_trials: int) -> None:
        self._keys = tuple(d.key for d in space.dimensions if d.key in keys)
        self._levels = []
        for values in levels_of(space, keys):
            own = _restricted(space, values)
            remaining = Remaining(Grid(own)) if own.is_finite else None
            self._levels.append(_Level(name_of(values), values, remaining))
        self._each = n_trials // len(self._levels)

    def next(
        self,
        trials: Sequence[FrozenTrial],
        ended: Mapping[str, object],
        open_: Collection[str],
    ) -> Values | None:
        """The values of the level whose turn it is; None where each has had its trials.

        Args:
            trials: of the study.
            ended: see `Remaining.update`.
            open_: the same.
        """
        counts = self._counts(trials)
        left = self._left(counts, ended, open_)
        if not left:
            return None
        least = min(counts[level.name] for level in left)
        turn = [level for level in left if counts[level.name] == least]
        # Who begins a round knows least of it, so each level does in its turn.
        first = self._levels[least % len(self._levels) :]
        return next((level for level in first if level in turn), turn[0]).values

    def left(
        self,
        trials: Sequence[FrozenTrial],
        ended: Mapping[str, object],
        open_: Collection[str],
    ) -> set[str]:
        """Names of the levels that have not had their trials; arguments as of `next`."""
        return {level.name for level in self._left(self._counts(trials), ended, open_)}

    def _counts(self, trials: Sequence[FrozenTrial]) -> Counter[str]:
        return Counter(level_of(trial, self._keys) for trial in budgeted(trials))

    def _left(
        self, counts: Counter[str], ended: Mapping[str, object], open_: Collection[str]
    ) -> list[_Level]:
        for level in self._levels:
            if level.remaining is not None:
                level.remaining.update(ended, [*open_])
        return [
            level
            for level in self._levels
            if counts[level.name] < self._each
            and (level.remaining is None or level.remaining.count > 0)
        ]

    def remaining_of(self, values: Values) -> Remaining | None:
        """The points that are left of the level that a trial is of; None if it is of none."""
        name = name_of({key: values[key] for key in self._keys if key in values})
        return next((level.remaining for level in self._levels if level.name == name), None)


def levels_of(space: Space, keys: Sequence[str]) -> list[Values]:
    """The values of each level; without keys one level, which has none."""
    compared = [d for d in space.dimensions if d.key in keys]
    chosen = product(*(d.values() for d in compared))
    return [{d.key: one for d, one in zip(compared, each, strict=True)} for each in chosen]


def _restricted(space: Space, values: Values) -> Space:
    """The space with one value of each of some keys."""
    dimensions = [
        replace(d, listed=(values[d.key],)) if d.key in values else d for d in space.dimensions
    ]
    return replace(space, dimensions=tuple(dimensions))
