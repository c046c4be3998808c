"""From overrides to a search space, by Hydra's grammar.

As hydra-optuna-sweeper reads it: `x=a,b`, `x=range(1,5)`, `x=interval(0,1)`,
`x=tag(log,interval(1e-4,1e-2))`, `x=glob(*)`; everything else passes through.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution

from experiments.errors import UserError
from sweeps.space.dimensions import SEED_KEY, Dimension, Fixed, Space, refuse_too_many

NOT_SWEPT = {
    "name": "it names the sweep; start one command for each name",
    "objective": "trials are compared by it; several objectives are a list: objective=[psnr,ssim]",
    "sweep.file": "it says what is searched; start one command for each file",
}


def parse(overrides: Sequence[str], config_loader: Any = None) -> Space:
    """The search space of some overrides, the later of two for the same key counting.

    Conditions are not known yet: see `sweeps.space.conditions`.

    Raises:
        UserError: a sweep has no values or equal ones, or is over a key that cannot be swept.
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


def _seeds(override: Any) -> tuple[int, ...]:
    _refuse_long_range(override)
    if override.is_interval_sweep():
        raise UserError("`seed` must be listed (seed=1,2,3): a sampler never optimises over it")
    listed = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    values = list(listed)
    if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise UserError(f"`seed` must be integers, but got {override.input_line}")
    return tuple(dict.fromkeys(values))


def _dimension(key: str, override: Any) -> Dimension:
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    if key.lstrip("+") in NOT_SWEPT:
        raise UserError(f"`{key}` cannot be swept: {NOT_SWEPT[key.lstrip('+')]}")
    if override.is_range_sweep():
        _refuse_equal_points(override)
    _refuse_long_range(override)
    if _is_listed(override):
        return _choice(key, override)
    try:
        distribution = create_optuna_distribution_from_override(override)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{override.input_line} is no search space: {error}") from error
    if isinstance(distribution, CategoricalDistribution):  # decimals that no float has
        return _choice(key, override)
    return Dimension(key, distribution, enumerated=not override.is_interval_sweep())


def _is_listed(override: Any) -> bool:
    """Whether the order of the values is the user's, so that they are choices, not a range."""
    value = override.value()
    changed = getattr(value, "shuffle", False) or getattr(value, "transformers", None)
    return bool(override.is_discrete_sweep() and (not override.is_range_sweep() or changed))


def _choice(key: str, override: Any) -> Dimension:
    """Each value once, shuffled once where it is to be."""
    from hydra.core.override_parser.types import Sweep, Transformer

    elements = list(override.sweep_iterator(transformer=Transformer.identity))
    if not elements:
        raise UserError(f"a sweep must have values, but {override.input_line} has none")
    if any(isinstance(element, Sweep) for element in elements):
        raise UserError(
            f"a list must hold values, but {override.input_line} has a range or an interval among "
            "them; write its values out"
        )
    if any(isinstance(element, float) and math.isnan(element) for element in elements):
        raise UserError(f"a value must equal itself, but {override.input_line} has nan")
    distinct: dict[Hashable, Any] = {}
    for element in elements:
        distinct.setdefault(_meaning(element), element)
    if override.is_range_sweep() and len(distinct) < len(elements):
        raise _equal_points(override)
    choices = [Transformer.encode(element) for element in distinct.values()]
    texts = tuple(str(Transformer.str(element)) for element in distinct.values())
    if len(set(choices)) < len(choices):  # 1 and True are equal
        choices = list(texts)
    return Dimension(key, CategoricalDistribution(choices), texts)


def _meaning(element: Any) -> Hashable:
    """What is equal for values that mean the same: 1 and 1.0, 'a' and "a", but not 1 and true."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(element, QuotedString):
        return "text", element.text
    if isinstance(element, str):
        return "text", element
    if isinstance(element, int | float) and not isinstance(element, bool):
        return element
    return type(element).__name__, str(element)


def _refuse_long_range(override: Any) -> None:
    """Before Hydra lists what `range` says."""
    from hydra.core.override_parser.types import RangeSweep

    value = override.value()
    if isinstance(value, RangeSweep) and value.step:
        count = (float(value.stop or 0) - float(value.start or 0)) / value.step
        refuse_too_many(count, override.input_line)


def _refuse_equal_points(override: Any) -> None:
    """A step below the last digit of the numbers makes points that are the same number."""
    ends = [abs(float(end)) for end in (override.value().start, override.value().stop)]
    step = abs(float(override.value().step))
    if 0 < step < math.ulp(max(ends)) and ends[0] != ends[1]:
        raise _equal_points(override)


def _equal_points(override: Any) -> UserError:
    return UserError(
        f"the points of a range must be distinct, but those of {override.input_line} are the same "
        "number to the last digit; take a larger step"
    )
