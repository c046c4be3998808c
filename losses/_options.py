"""Checks of the options that distances are made with. Each returns the value, typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def positive(name: str, value: Any) -> float:
    if not _is_number(value) or not value > 0:
        raise ValueError(f"`{name}` must be a number above 0, but got {value!r}")
    return float(value)


def non_negative(name: str, value: Any) -> float:
    if not _is_number(value) or not value >= 0:
        raise ValueError(f"`{name}` must be a number of 0 or more, but got {value!r}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a number from 0 to 1, but got {value!r}")
    return float(value)


def odd_window(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 3 or value % 2 == 0:
        raise ValueError(f"`{name}` must be an odd whole number of 3 or more, but got {value!r}")
    return int(value)


def positives(name: str, values: Any) -> tuple[float, ...]:
    if not _is_list(values) or not values:
        raise ValueError(f"`{name}` must be a list of numbers above 0, but got {values!r}")
    return tuple(positive(f"{name}[{index}]", value) for index, value in enumerate(values))


def strings(name: str, values: Any) -> tuple[str, ...]:
    if not _is_list(values) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"`{name}` must be a list of names, but got {values!r}")
    return tuple(values)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, but got {value!r}")
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str)
