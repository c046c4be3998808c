"""The settings of a sweep, checked: `hydra.sweeper.*` and `sweep.*`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.errors import UserError
from experiments.metrics import METRICS


@dataclass(frozen=True)
class Settings:
    """What the user set, see conf/hydra/sweeper/vaesweep.yaml and experiments/config/schema.py."""

    n_trials: int | None = None
    timeout: float | None = None
    n_jobs: int | None = None
    storage: Any = None
    study_name: str = "study"
    params: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    sampler: Mapping[str, Any] = field(default_factory=dict)
    pruner: Mapping[str, Any] = field(default_factory=dict)
    compare: Sequence[str] | None = None
    warm_start: Sequence[str] = ()
    confirm: int = 0
    confirm_seeds: int = 5
    confirm_most: int | None = None
    margins: Mapping[str, float] | None = None
    stop_after_no_improvement: int | None = None
    max_failure_rate: float = 0.5
    max_retries: int = 2
    retry_failed: bool = False
    trials_per_gpu: int = 1
    gpus_per_trial: int = 1


def read(sweeper: Mapping[str, Any], sweep: Mapping[str, Any]) -> Settings:
    """Check plain values of `hydra.sweeper` and `sweep`.

    Raises:
        UserError: one breaks its rule.
    """
    for prefix, values, rules in (
        ("hydra.sweeper", sweeper, _SWEEPER),
        ("sweep", sweep, _SWEEP),
    ):
        for key, (rule, holds) in rules.items():
            if not holds(values[key]):
                raise UserError(f"`{prefix}.{key}` must be {rule}, but got {values[key]!r}")
    for key in ("sampler", "pruner"):
        if not isinstance(sweeper[key], Mapping):
            raise UserError(
                f"`hydra/sweeper/{key}` must be chosen with slashes, but got "
                f"hydra.sweeper.{key}={sweeper[key]}; type hydra/sweeper/{key}={sweeper[key]}"
            )
    kept = {key: sweeper[key] for key in (*_SWEEPER, "storage", "sampler", "pruner")}
    own = {key: sweep[key] for key in _SWEEP}
    lists = {key: (own[key],) for key in ("compare", "warm_start") if isinstance(own[key], str)}
    settings = Settings(**kept, **own | lists)
    most = settings.confirm_most
    if most is not None and most < settings.confirm_seeds:
        raise UserError(
            "`sweep.confirm_most` must be `sweep.confirm_seeds` or more, but got "
            f"{most} and {settings.confirm_seeds}"
        )
    if settings.gpus_per_trial > 1 < settings.trials_per_gpu:
        raise UserError(
            "`sweep.trials_per_gpu` must be 1 where a trial has several GPUs, but got "
            f"{settings.trials_per_gpu} and sweep.gpus_per_trial={settings.gpus_per_trial}; leave "
            "one of them out"
        )
    return settings


Rule = tuple[str, Callable[[Any], bool]]


def _integer(least: int) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return f"an integer of {least} or more", holds


def _or_null(rule: Rule) -> Rule:
    return f"{rule[0]}, or null", lambda value: value is None or rule[1](value)


def _number(rule: str, holds: Callable[[float], bool]) -> Rule:
    def is_number_that_holds(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and holds(value)

    return rule, is_number_that_holds


def _is_text_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _is_keys(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    is_list = isinstance(value, Sequence)
    return is_list and all(isinstance(key, str) and key for key in value)


def _is_margins(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        name in METRICS and isinstance(margin, int | float) and 0 <= margin < math.inf
        for name, margin in value.items()
    )


_SWEEPER: dict[str, Rule] = {
    "n_trials": _or_null(_integer(1)),
    "timeout": _or_null(_number("a number of seconds above 0", lambda v: v > 0)),
    "n_jobs": _or_null(_integer(0)),
    "study_name": ("a name", lambda v: isinstance(v, str) and 0 < len(v) <= 400),
    "params": ("keys with search spaces", lambda v: isinstance(v, Mapping)),
    "conditions": ("keys with KEY=VALUES", _is_text_map),
}
_SWEEP: dict[str, Rule] = {
    "compare": _or_null(("keys that are searched, such as loss or [loss,latent_dim]", _is_keys)),
    "warm_start": ("directories or addresses of past sweeps", _is_keys),
    "confirm": _integer(0),
    "confirm_seeds": _integer(2),
    "confirm_most": _or_null(_integer(2)),
    "margins": _or_null(
        (f"numbers from 0 by metric ({', '.join(METRICS)}), such as {{psnr: 0.2}}", _is_margins)
    ),
    "stop_after_no_improvement": _or_null(_integer(1)),
    "max_failure_rate": _number("in [0, 1]", lambda v: 0 <= v <= 1),
    "max_retries": _integer(0),
    "retry_failed": ("true or false", lambda v: isinstance(v, bool)),
    "trials_per_gpu": _integer(1),
    "gpus_per_trial": _integer(1),
}
