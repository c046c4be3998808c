"""How a sweep compares: what it says beside its trials, written before anybody looked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.metrics import METRICS

SCHEMA = 1

_GROUPS = ("loss", "model", "data")


@dataclass(frozen=True)
class Design:
    """What a sweep compares.

    Attributes:
        compare: columns of `Runs.trials` whose values are the levels; none where nothing is.
        planned: how many seeds each was meant to get before anybody looked; None if unknown.
        margins: by metric, those that its user changed.
    """

    compare: tuple[str, ...]
    planned: int | None = None
    margins: Mapping[str, float] = field(default_factory=dict)


def parsed(content: Any) -> Design:
    """A design from what is kept of it.

    Raises:
        ValueError: it is not of that form.
    """
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        raise ValueError(f"a design must be an object with schema {SCHEMA}, but is {content!r:.80}")
    compare, planned = content.get("compare"), content.get("planned")
    keys = compare if isinstance(compare, list) else []
    if not isinstance(compare, list) or not all(isinstance(key, str) and key for key in keys):
        raise ValueError(f"`compare` of a design must be a list of keys, but is {compare!r:.80}")
    if planned is not None and (not _is_number(planned) or planned != int(planned) or planned < 1):
        raise ValueError(f"`planned` of a design must be a number of seeds, but is {planned!r:.80}")
    margins = {} if content.get("margins") is None else content["margins"]
    if not isinstance(margins, Mapping):
        raise ValueError(f"`margins` of a design must be an object, but is {margins!r:.80}")
    for name, value in margins.items():
        check_margin(name, value)
    columns = tuple(
        f"{key}.name" if key in _GROUPS else key for key in (name.lstrip("+") for name in keys)
    )
    return Design(columns, None if planned is None else int(planned), dict(margins))


def check_margin(name: str, value: Any) -> None:
    """Raise ValueError unless it is a margin of a metric."""
    if name not in METRICS or not _is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(
            "a margin must be METRIC=VALUE with a value of 0 or more and a metric out of "
            f"{', '.join(METRICS)}, but got {name}={value!r:.80}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
