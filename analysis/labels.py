"""What groups, metrics and their values are called in tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.machine.plugins import FROM_OUTSIDE
from experiments.metrics import METRICS, Direction, Metric, UnknownMetricError

DISTANCE = "distance/"
"""Before a loss's name: the metric that this loss minimises, unscaled."""
SECONDS = "seconds/epoch"
MOST_NAMED = 8
"""Groups that a sentence names; more are counted."""

_SECONDS = Metric(
    SECONDS, "seconds per epoch", "minimize", "s", None, "what a training takes", "samples", "",
    is_descriptive=True,
)  # fmt: skip
_WORDS = {"latent_dim": "latent", "loss.degree": "degree"}
_PLAIN = (".name", ".scale", ".target")  # columns whose values speak for themselves


def is_quality(metric: str) -> bool:
    """Whether a metric says how good a model is: seconds per epoch, which are a cost, do not."""
    found = _metric(metric)
    return found is None or not found.is_descriptive


def better(metric: str) -> Direction:
    """Which way a metric, a loss's distance or the seconds per epoch are better.

    Raises:
        UnknownMetricError: there is no such metric.
    """
    found = _metric(metric)
    if found is None:
        choices = ", ".join([*METRICS, SECONDS, f"{DISTANCE}<loss>"])
        raise UnknownMetricError(
            f"a metric must be one of {choices}, but got {metric!r}; {FROM_OUTSIDE}"
        )
    return found.direction


def sign(metric: str) -> int:
    """1 where more of a metric is better, else -1."""
    return 1 if better(metric) == "maximize" else -1


def title(metric: str) -> str:
    """A metric in words: MS-SSIM for ms_ssim."""
    found = _metric(metric)
    return metric.replace("_", " ") if found is None else found.title


def unit(metric: str) -> str:
    """The unit of a metric, such as dB; empty where there is none."""
    found = _metric(metric)
    return "" if found is None else found.unit


def _metric(name: str) -> Metric | None:
    if name.startswith(DISTANCE):
        words = f"{name.removeprefix(DISTANCE)} loss"
        return Metric(name, words, "minimize", "", None, "", "reconstructions", "")
    return _SECONDS if name == SECONDS else METRICS.get(name)


def group_label(values: Mapping[str, Any]) -> str:
    """Label of trials that share these values of columns: «ssim, mean», «latent 64, lr 0.0003»."""
    return ", ".join(_said(column, value) for column, value in values.items())


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence: a, b and c; with semicolons where a name has a comma."""
    if len(names) < 2:
        return "".join(names)
    between = "; " if any(", " in name for name in names) else ", "
    return f"{between.join(names[:-1])} {last} {names[-1]}"


def _said(column: str, value: Any) -> str:
    missing = pd.isna(value)
    if column.endswith(_PLAIN):
        return "none" if missing else str(value)
    word = _WORDS.get(column, column)
    if missing:
        return f"no {word}"
    if isinstance(value, float):
        return f"{word} {value:.4g}"
    return f"{word} {value}"
