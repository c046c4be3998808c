"""What every part of the analysis reads: the trials of one or several sweeps as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from experiments.metrics import METRICS

FINGERPRINT = "data.fingerprint"
"""The column that says which images a trial saw; its config says only where they lay."""
DEGREE = "loss.degree"
"""The column that tells what was trained on the scale of an older version."""
SEARCH, CONFIRM = "search", "confirm"
"""Phases of a sweep."""
GROUPS = ("loss", "model", "data", "logger")
"""Config groups, of which the column `<group>.name` is the choice."""

_SCHEMA = 1  # of a design


@dataclass(frozen=True)
class Broken:
    """Something that looked like a trial but could not be read.

    Attributes:
        where: a path, a study's trial or a W&B run.
        reason: why not, in a sentence.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Design:
    """What a sweep compares.

    Attributes:
        compare: columns of `Runs.trials` whose values are the levels; none where nothing is.
        planned: how many seeds each was meant to get before anybody looked; None if unknown.
        margins: by metric, those that its user changed.
        trials: that it is to have before anything is confirmed; None if that is unknown.
    """

    compare: tuple[str, ...]
    planned: int | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    trials: int | None = None


@dataclass(frozen=True)
class Runs:
    """Trials and their histories.

    `trials` has one row a trial and the columns

    - `trial`: unique text, `<sweep>/<number>`, or `<name>/<directory>` of a single run;
    - `source`, `sweep`, `number` (missing for a single run), `phase` ("search" or "confirm");
    - `status`: completed, pruned, failed, interrupted, running or waiting; `reason`; `seed`;
      `started`, the time in ISO 8601;
    - every key of the flat config by its name, such as `loss.name`, `loss.scale`, `lr`,
      `latent_dim`, `beta`, `model.name`, `data.size`;
    - `configuration`: the same text for trials that differ in nothing but the seed;
    - `val/<metric>` of the final evaluation (of the best validation, if the trial was pruned), and
      `test/<metric>` where that split was scored;
    - `epochs`, `steps`, `seconds/total`, `seconds/fit`, `seconds/epoch`, `images_per_second`;
    - `directory` and `checkpoint` (absolute paths), `wandb` (address of the run), each missing
      where there is none.

    `history` has one row a validation: `trial`, `epoch` (from 0), `step`, `val/<metric>`.

    Attributes:
        trials: as above; empty, but with the columns that every trial has, if there are none.
        history: as above.
        broken: what could not be read.
        objectives: names of the metrics that all sweeps searched by; empty if there is none.
        searched: columns of `trials` that the sweeps searched over, without the seed.
        designs: how sweeps compare, by name, where they say so.
        varied: columns by which trials differ, searched or not, without the seed.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    broken: list[Broken] = field(default_factory=list)
    objectives: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    designs: Mapping[str, Design] = field(default_factory=dict)
    varied: tuple[str, ...] = ()

    @property
    def objective(self) -> str:
        """The first objective; the PSNR where the sweeps differ."""
        return self.objectives[0] if self.objectives else "psnr"


def parsed_design(content: Any) -> Design:
    """A design from what is kept of it.

    Raises:
        ValueError: it is not of that form.
    """
    if not isinstance(content, Mapping) or content.get("schema") != _SCHEMA:
        raise ValueError(
            f"a design must be an object with schema {_SCHEMA}, but is {content!r:.80}"
        )
    compare = content.get("compare")
    keys = compare if isinstance(compare, list) else []
    if not isinstance(compare, list) or not all(isinstance(key, str) and key for key in keys):
        raise ValueError(f"`compare` of a design must be a list of keys, but is {compare!r:.80}")
    for name in ("planned", "trials"):
        count = content.get(name)
        if count is not None and (not _is_number(count) or not 1 <= count == int(count)):
            raise ValueError(f"`{name}` of a design must be a count from 1, but is {count!r:.80}")
    margins = {} if content.get("margins") is None else content["margins"]
    if not isinstance(margins, Mapping):
        raise ValueError(f"`margins` of a design must be an object, but is {margins!r:.80}")
    for name, value in margins.items():
        check_margin(name, value)
    columns = tuple(column_of(key) for key in keys)
    counts = (None if content.get(n) is None else int(content[n]) for n in ("planned", "trials"))
    planned, trials = counts
    return Design(columns, planned, dict(margins), trials)


def column_of(key: str) -> str:
    """The column of an override's key: `loss.name` of `loss`."""
    key = key.lstrip("+")
    return f"{key}.name" if key in GROUPS else key


def is_null(column: str, value: Any) -> bool:
    """Whether a missing value of a column is a null, which a config may well say.

    Every config has each key but the options of a choice: `loss.window_size` is none of `mse`.
    """
    is_option = column.partition(".")[0] in GROUPS and not column.endswith(".name")
    return bool(pd.isna(value)) and not is_option


def values_of(trials: pd.DataFrame, column: str) -> list[Any]:
    """The different values of a column, in the order of the trials; None where it is null."""
    known = [None if is_null(column, value) else value for value in trials[column].unique()]
    return [value for value in dict.fromkeys(known) if value is None or not pd.isna(value)]


def check_margin(name: str, value: Any) -> None:
    """Raise ValueError unless it is a margin of a metric."""
    if name not in METRICS or not _is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(
            "a margin must be METRIC=VALUE with a value of 0 or more and a metric out of "
            f"{', '.join(METRICS)}, but got {name}={value!r:.80}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
