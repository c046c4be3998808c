"""The `parameters` of a W&B sweep file, as a search space.

What they mean is W&B's "Sweep configuration options" (wandb 0.31). A search by random numbers
draws every distribution as it is described there; a Bayesian one knows Optuna's: uniform or
log-uniform numbers, whole or not, and choices.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.cli.grammar import literal
from experiments.errors import UserError
from sweeps.space import priors
from sweeps.space.dimensions import SEED_KEY, Dimension, Space
from sweeps.space.grammar import NOT_SWEPT
from sweeps.space.priors import Prior, Quantile

log = logging.getLogger(__name__)

METHODS = ("grid", "random", "bayes")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MOST = 700.0  # of which exp() is still finite
_CHANCE = 1e-6  # by which probabilities may miss 1

_BOUNDS: dict[str, Any] = {"min": None, "max": None}
_STEP: dict[str, Any] = {"q": 1}
_NORMAL: dict[str, Any] = {"mu": 0, "sigma": 1}
_BETA: dict[str, Any] = {"a": 1, "b": 1}
KEYS: dict[str, dict[str, Any]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _BOUNDS,
    "uniform": _BOUNDS,
    "q_uniform": _BOUNDS | _STEP,
    "log_uniform": _BOUNDS,
    "log_uniform_values": _BOUNDS,
    "q_log_uniform": _BOUNDS | _STEP,
    "q_log_uniform_values": _BOUNDS | _STEP,
    "inv_log_uniform": _BOUNDS,
    "inv_log_uniform_values": _BOUNDS,
    "normal": _NORMAL,
    "q_normal": _NORMAL | _STEP,
    "log_normal": _NORMAL,
    "q_log_normal": _NORMAL | _STEP,
    "beta": _BETA,
    "q_beta": _BETA | _STEP,
}
"""What each distribution is told, with defaults; without one (None) it must be told."""
_GRID = ("categorical", "int_uniform", "q_uniform")


@dataclass(frozen=True)
class _Parameter:
    """One parameter.

    Attributes:
        key: of the config, dotted.
        kind: of the distribution.
        told: what it was told, defaults filled in.
    """

    key: str
    kind: str
    told: Mapping[str, Any]


def read(parameters: Any, method: str) -> tuple[list[str], Space]:
    """Constants as overrides, and everything else as a space.

    Args:
        parameters: of the file, as YAML has it.
        method: one of `METHODS`.

    Raises:
        UserError: a parameter is malformed, or the method cannot search it as it is meant.
    """
    constants, dimensions = [], []
    seeds: tuple[int, ...] = ()
    for parameter in _flat(parameters, "parameters"):
        if parameter.kind == "constant":
            constants.append(f"{parameter.key}={literal(parameter.told['value'])}")
        elif parameter.key == SEED_KEY:
            seeds = _seeds(parameter, method)
        elif parameter.key in NOT_SWEPT:
            why = NOT_SWEPT[parameter.key]
            raise UserError(f"`parameters.{parameter.key}` cannot be searched: {why}")
        else:
            _warn_of_logarithms(parameter)
            dimensions.append(_dimension(parameter, method))
    return constants, Space(tuple(dimensions), seeds)


def _flat(parameters: Any, path: str) -> Iterator[_Parameter]:
    if not isinstance(parameters, Mapping) or not parameters:
        raise UserError(f"`{path}` must be parameters by their names, but got {parameters!r}")
    for name, spec in parameters.items():
        where = f"{path}.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"`{path}` must have names of letters, digits, dots, - and _, but got {name!r}"
            )
        if not isinstance(spec, Mapping):
            raise UserError(
                f"`{where}` must have keys such as value, values or min and max, but got {spec!r}"
            )
        if "parameters" in spec:
            if len(spec) > 1:
                raise UserError(f"`{where}` must have nothing beside parameters, but got {spec!r}")
            for nested in _flat(spec["parameters"], f"{where}.parameters"):
                yield _Parameter(f"{name}.{nested.key}", nested.kind, nested.told)
        else:
            kind = _kind(spec, where)
            yield _Parameter(name, kind, _told(spec, kind, where))


def _kind(spec: Mapping[str, Any], where: str) -> str:
    """The distribution that is named, or that W&B infers."""
    if "distribution" in spec:
        if spec["distribution"] not in KEYS:
            raise UserError(
                f"`{where}.distribution` must be one of {', '.join(KEYS)}, "
                f"but got {spec['distribution']!r}"
            )
        return str(spec["distribution"])
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        whole = _is_whole(spec["min"]) and _is_whole(spec["max"])
        return "int_uniform" if whole else "uniform"
    raise UserError(
        f"`{where}` must have value, values, min and max, parameters or a distribution, "
        f"but got {spec!r}"
    )


def _told(spec: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    known = KEYS[kind]
    told = {key: value for key, value in spec.items() if key != "distribution"}
    unknown = [key for key in told if key not in known]
    missing = [key for key, default in known.items() if default is None and key not in told]
    if unknown or missing:
        raise UserError(
            f"`{where}` must have {' and '.join(known)} as {kind} takes them, "
            f"but got {', '.join(map(str, told)) or 'none'}"
        )
    told = known | told
    _check(told, kind, where)
    return told


def _check(told: Mapping[str, Any], kind: str, where: str) -> None:
    def must(key: str, rule: str, holds: bool) -> None:
        if not holds:
            got = told[key]
            hint = "; YAML wants a dot: 1.0e-4" if isinstance(got, str) and "e" in got else ""
            raise UserError(f"`{where}.{key}` must be {rule}, but got {got!r}{hint}")

    def number(key: str) -> bool:
        value = told[key]
        return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e300

    if "values" in told:
        must(
            "values", "a list of values", isinstance(told["values"], list) and told["values"] != []
        )
    if "probabilities" in told:
        chances = told["probabilities"]
        rule = "numbers of 0 or more, one for each of the values, that add up to 1"
        fits = isinstance(chances, list) and len(chances) == len(told["values"])
        fits = fits and all(isinstance(c, int | float) and c >= 0 for c in chances)
        must("probabilities", rule, fits and abs(math.fsum(chances) - 1) <= _CHANCE)
    for key in ("min", "max", "q", "mu", "sigma", "a", "b"):
        if key in told:
            must(key, "a number", number(key))
    for key in ("q", "sigma", "a", "b"):
        if key in told:
            must(key, "above 0", told[key] > 0)
    if "min" not in told:
        return
    if kind == "int_uniform":
        for key in _BOUNDS:
            must(key, "a whole number for int_uniform", _is_whole(told[key]))
    if "log" in kind and kind.endswith("_values"):
        must("min", f"above 0 for {kind}", told["min"] > 0)
    elif "log" in kind:
        for key in _BOUNDS:
            rule = f"a natural logarithm for {kind}, between -700 and 700"
            must(key, f"{rule} (or take {kind}_values)", abs(told[key]) <= _MOST)
    must("min", f"at most max, {told['max']}", told["min"] <= told["max"])


def _seeds(parameter: _Parameter, method: str) -> tuple[int, ...]:
    told = parameter.told
    if parameter.kind == "int_uniform" and method == "grid":
        return tuple(range(told["min"], told["max"] + 1))
    if parameter.kind != "categorical" or not all(map(_is_whole, told["values"])):
        raise UserError(
            "`parameters.seed` must be whole numbers in a list (values: [0, 1, 2]), but got "
            f"{parameter.kind} {dict(told)}: a sampler never optimises over it"
        )
    return tuple(dict.fromkeys(told["values"]))


def _dimension(parameter: _Parameter, method: str) -> Dimension:
    key, kind, told = parameter.key, parameter.kind, parameter.told
    if method == "grid" and kind not in _GRID:
        raise UserError(
            f"`parameters.{key}` must be a list, int_uniform or q_uniform for method: grid, "
            f"but got {kind}; list its values, or take method: random"
        )
    listed = method == "grid"
    if "values" in told:
        return _choice(parameter, method)
    if kind == "int_uniform":
        return Dimension(key, IntDistribution(told["min"], told["max"]), enumerated=listed)
    quantile = _quantile(parameter)
    if quantile is None:
        low, high = _bounds(parameter)
        is_log = kind != "uniform"
        return Dimension(key, FloatDistribution(low, high, log=is_log), enumerated=False)
    if method == "bayes":
        return Dimension(key, _known_to_optuna(parameter, quantile), enumerated=False)
    prior = Prior(kind, quantile)
    if "q" not in told:
        return Dimension(
            key, FloatDistribution(quantile(0), quantile(1)), enumerated=False, prior=prior
        )
    distribution = _multiples(quantile, told["q"])
    # Both ends of a uniform one have half the chance of the others; a grid has no chances.
    return Dimension(key, distribution, enumerated=listed, prior=None if listed else prior)


def _choice(parameter: _Parameter, method: str) -> Dimension:
    """One of the values, by the texts that the command line would have for them."""
    told = parameter.told
    by_text = {literal(value): value for value in told["values"]}
    choices: list[Any] = [
        value if isinstance(value, str | int | float | bool) else text
        for text, value in by_text.items()
    ]
    if len(set(choices)) < len(choices):  # 1 and True are equal
        choices = list(by_text)
    prior = None
    if "probabilities" in told:
        if method == "bayes":
            raise _refused(parameter)
        chances = dict.fromkeys(by_text, 0.0)
        for value, chance in zip(told["values"], told["probabilities"], strict=True):
            chances[literal(value)] += chance
        quantile = partial(priors.weighted, tuple(choices), tuple(chances.values()))
        prior = Prior("probabilities", quantile)
    return Dimension(
        parameter.key,
        CategoricalDistribution(choices),
        tuple(by_text),
        enumerated=method == "grid",
        prior=prior,
    )


def _quantile(parameter: _Parameter) -> Quantile | None:
    """Of the distribution; None where Optuna's own is the same."""
    kind, told = parameter.kind, parameter.told
    plain: Callable[..., Any] = {
        "uniform": priors.uniform,
        "normal": priors.normal,
        "log_normal": priors.log_normal,
        "beta": priors.beta,
    }.get(kind.removeprefix("q_"), priors.log_uniform)
    if "q" in told:
        ends = _bounds(parameter) if "min" in told else ()
        shape = [told[key] for key in ("mu", "sigma", "a", "b") if key in told]
        return partial(priors.rounded, partial(plain, *ends, *shape), told["q"])
    if "min" in told:
        return None
    return partial(plain, *(told[key] for key in KEYS[kind]))


def _bounds(parameter: _Parameter) -> tuple[float, float]:
    """The least and the greatest value, before any rounding."""
    kind, low, high = parameter.kind, parameter.told["min"], parameter.told["max"]
    if kind.removeprefix("q_") == "log_uniform":
        return math.exp(low), math.exp(high)
    if kind == "inv_log_uniform":
        return math.exp(-high), math.exp(-low)
    return float(low), float(high)


def _multiples(quantile: Quantile, step: float) -> IntDistribution | FloatDistribution:
    low, high = quantile(0), quantile(1)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, step=int(step))
    return FloatDistribution(low, high, step=step)


def _known_to_optuna(parameter: _Parameter, quantile: Quantile) -> BaseDistribution:
    """Of a distribution that a Bayesian search can have, though Optuna has no such."""
    if parameter.kind == "q_uniform":
        return _multiples(quantile, parameter.told["q"])
    if parameter.kind in ("q_log_uniform", "q_log_uniform_values") and parameter.told["q"] == 1:
        low, high = quantile(0), quantile(1)
        if low >= 1:
            return IntDistribution(low, high, log=True)
    raise _refused(parameter)


def _warn_of_logarithms(parameter: _Parameter) -> None:
    """Bounds such as 1e-4 and 1e-2 were hardly meant as logarithms."""
    told = parameter.told
    if parameter.kind.endswith("log_uniform") and told["min"] > 0 and told["max"] < 1:
        log.warning(
            "parameters.%s: %s takes natural logarithms, so its values are between %g and %g; "
            "%s_values takes the values themselves",
            parameter.key,
            parameter.kind,
            *_bounds(parameter),
            parameter.kind,
        )


def _refused(parameter: _Parameter) -> UserError:
    return UserError(
        f"`parameters.{parameter.key}` must be a distribution that a Bayesian search can have "
        "(values, int_uniform, uniform, q_uniform, log_uniform, log_uniform_values, and these "
        f"with q: 1 from 1 on), but got {parameter.kind}; take one of them, or method: random"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
