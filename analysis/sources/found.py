"""A trial as one source knows it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import models
from analysis.runs import DEGREE, FINGERPRINT, Broken, Design
from experiments.config.decided import OLD_DEGREE

_COUNTS = ("seed", "epochs", "steps", "epoch", "step")
_LARGEST = 2**53  # integer that a table of floats can hold

Row = dict[str, Any]
"""Values by column."""


@dataclass
class Found:
    """A trial.

    Attributes:
        origin: the sweep's directory, the study or the W&B project that it was found in.
        sweep: name of its sweep; None for a single run.
        number: within the sweep: the name of the trial's directory; None if it has none.
        label: the value of `trial` if there is no number.
        config: flat, with its images' fingerprint.
        row: other columns of `Runs.trials`, without those that follow from the attributes above.
        history: rows of `Runs.history`, without `trial`.
        run: id of its W&B run.
    """

    origin: str
    sweep: str | None
    number: int | None
    label: str
    config: Row
    row: Row
    history: Sequence[Row] = ()
    run: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no table could hold: one trial of somebody else's must not cost all others.

        Raises:
            ValueError: a value is not of the type of its column.
        """
        _check("number", self.number, int)
        for key, value in self.config.items():
            _check(key, value, str, int, float, tuple)
        for key in ("loss.name", "name"):
            _check(key, self.config.get(key), str)
        objective = self.config.get("objective", ())
        for name in objective if isinstance(objective, tuple) else [objective]:
            if not isinstance(name, str):
                raise ValueError(f"its objective must be a metric or several, but is {name!r:.80}")
        for key, value in self.row.items():
            _check(key, value, *_types(key))
        for row in self.history:
            for key, value in row.items():
                _check(key, value, *_types(key if key in _COUNTS else "/"))


@dataclass
class Findings:
    """What a source holds.

    Attributes:
        trials: those that could be read.
        broken: what could not.
        searched: columns that a sweep searched over, by its origin and name, where the source says
            so; once sources are merged, by its name alone, with an empty origin.
        designs: how a sweep compares, likewise.
    """

    trials: list[Found] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    searched: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    designs: dict[tuple[str, str], Design] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        """Take over what another source holds."""
        self.trials += other.trials
        self.broken += other.broken
        self.searched |= other.searched
        self.designs |= other.designs


def _types(column: str) -> tuple[type, ...]:
    if column in _COUNTS:
        return (int,)
    return (int, float) if "/" in column or column == "images_per_second" else (str,)


def _check(name: str, value: Any, *types: type) -> None:
    if value is not None and not (
        isinstance(value, types) and (not isinstance(value, int) or abs(value) < _LARGEST)
    ):
        wanted = " or ".join(one.__name__ for one in types)
        raise ValueError(f"its {name!r} must be {wanted}, but is {value!r:.80}")


def config_of(result: Mapping[str, Any]) -> Row:
    """The flat config in the content of a result.json, and the fingerprint of its images.

    Raises:
        ValueError: it is not of that form.
    """
    config = as_columns(_mapping(result, "parameters"))
    fingerprint = _mapping(result, "data").get("fingerprint")
    return config if fingerprint is None else config | {FINGERPRINT: str(fingerprint)}


def as_columns(config: Mapping[str, Any]) -> Row:
    """A flat config with values for columns, also for what those of older versions lack."""
    columns = {key: _column_value(value) for key, value in config.items()}
    if "loss.name" in columns:
        degree = columns.get(DEGREE, OLD_DEGREE)  # a text: numbers and texts do not compare
        columns[DEGREE] = f"{degree:g}" if isinstance(degree, int | float) else str(degree)
    if "model.name" in columns:
        model = models.complete({"name": columns["model.name"]}, recorded=True)
        columns = {f"model.{key}": value for key, value in model.items()} | columns
    return columns


def row_of(result: Mapping[str, Any]) -> Row:
    """The other columns that the content of a result.json fills, or a study's summary.

    Raises:
        ValueError: it is not of that form.
    """
    row: Row = {}
    metrics = _mapping(result, "metrics")
    for split in metrics:
        row |= {f"{split}/{name}": value for name, value in _numbers(metrics, split).items()}
    timings = _numbers(result, "timings")
    fit, epochs = timings.get("fit_seconds"), result.get("epochs")
    _check("epochs", epochs, int)
    return row | {
        "status": result.get("status"),
        "reason": result.get("reason"),
        "seed": result.get("seed"),
        "started": result.get("started"),
        "epochs": epochs,
        "steps": result.get("steps"),
        "seconds/total": timings.get("total_seconds"),
        "seconds/fit": fit,
        "seconds/epoch": fit / epochs if fit and epochs else None,
        "images_per_second": timings.get("images_per_second"),
        "wandb": _mapping(result, "wandb").get("url") or None,
    }


def run_id(result: Mapping[str, Any]) -> str | None:
    """Of the W&B run that a result.json names."""
    return _mapping(result, "wandb").get("id") or None


def checkpoint_in(directory: str, name: Any) -> str | None:
    """The file of that name in a record, if it is on this machine."""
    path = os.path.join(directory, str(name))
    return path if name and os.path.isfile(path) else None


def _column_value(value: Any) -> Any:
    """A value of a config as a column can hold and compare it."""
    if isinstance(value, list):
        return tuple(_column_value(item) for item in value)
    return json.dumps(value) if isinstance(value, dict) else value


def _mapping(result: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = result.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"its {key!r} must be an object, but is {type(value).__name__}")
    return value


def _numbers(result: Mapping[str, Any], key: str) -> Mapping[str, float | None]:
    values = _mapping(result, key)
    for name, value in values.items():
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"{name!r} in its {key!r} must be a number, but is {value!r}")
    return values
