"""Words and numbers of a sweep as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial

from sweeps.storage.attributes import OVERRIDES, SEED, is_confirmation

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def number(value: float | None) -> str:
    """Four significant digits; a dash for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def spread(mean: float, std: float, sign: str = "±") -> str:
    """A mean with its standard deviation, if there is one."""
    return number(mean) if math.isnan(std) else f"{number(mean)} {sign} {std:.2g}"


def objective_values(names: Sequence[str], values: Sequence[float | None]) -> str:
    """`psnr 19.4, ms_ssim 0.81`."""
    pairs = zip(names, values, strict=False)
    return ", ".join(f"{name} {number(value)}" for name, value in pairs)


def parameters(params: Mapping[str, Any]) -> str:
    """`loss=ssim lr=0.001`, as one types them."""
    return " ".join(f"{name}={_plain(value)}" for name, value in params.items())


def parameters_of(trial: FrozenTrial) -> str:
    """A trial's parameters, and its seed where only that tells it from others."""
    params = dict(trial.params)
    if is_confirmation(trial) and SEED in trial.user_attrs:
        params.setdefault(SEED, trial.user_attrs[SEED])
    if params:
        return parameters(params)
    overrides = trial.user_attrs.get(OVERRIDES, ())
    seed = [text for text in overrides if text.startswith(f"{SEED}=")]
    return " ".join(seed or overrides)


def trials_of(count: int) -> str:
    """`1 trial`, `12 trials`."""
    return f"{count} trial" if count == 1 else f"{count} trials"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    if round(seconds) < _MINUTE:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / _MINUTE)
    if minutes < _HOUR // _MINUTE:
        return f"{minutes} min"
    if minutes < _DAY // _MINUTE:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / _HOUR)
    return f"{hours // 24} d {hours % 24} h"


def clock(seconds: float) -> str:
    """`0:03:20`."""
    return str(timedelta(seconds=int(seconds)))


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
