"""Where past sweeps ended: values for the first trials of a new one (`sweep.warm_start`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState

from decisions import mean_places
from experiments.errors import UserError
from experiments.metrics import METRICS
from experiments.record import RERUN_OF, RESULT
from experiments.record.addresses import study_reference
from experiments.record.foreign import read_json
from sweeps.results.reading import the_study
from sweeps.space.dimensions import Dimension
from sweeps.space.points import Values
from sweeps.storage.answers import redacted
from sweeps.storage.attributes import SUMMARY, counted

_GROUP = ".name"  # after the key of a config group, such as loss, in a record
_MISSING = object()


def ends(source: str, objectives: Sequence[str]) -> list[Mapping[str, Any]]:
    """The parameters of the trials that a past sweep trained to their end, best first.

    Of several objectives the mean place counts.

    Args:
        source: directory with records, of one sweep or of several, or the address of an Optuna
            storage, `#` and the study's name, which may be left out where there is one study.
        objectives: metrics of the validation images.

    Returns:
        Flat parameters, as in `result.json`: `loss.name`, `lr`.

    Raises:
        UserError: there is no such directory or study, or it has no such trial.
    """
    known = []
    for record in _records(source):
        try:
            metrics = record["metrics"]["val"]
            values = [float(metrics[name]) for name in objectives]
            parameters = dict(record["parameters"])
        except (KeyError, TypeError, ValueError):
            continue  # it failed, or is no record of ours
        if record.get("status") == "completed" and all(map(math.isfinite, values)):
            known.append((values, parameters))
    if not known:
        raise UserError(
            "`sweep.warm_start` must name sweeps with completed trials and their "
            f"{' and '.join(objectives)}, but {redacted(source)} has none"
        )
    signs = [-1 if METRICS[name].direction == "maximize" else 1 for name in objectives]
    places = mean_places(np.array([values for values, _ in known]) * signs)
    return [known[place][1] for place in np.argsort(places, kind="stable")]


def first_values(
    past: Sequence[Sequence[Mapping[str, Any]]],
    usual: Mapping[str, Any],
    dimensions: Sequence[Dimension],
    level: Values,
) -> list[Values]:
    """The values with which the first trials of a level begin, the first first.

    Of each past sweep the best trial of this level or, where it had none, of all; then what is
    usual. Keys that have no such value in the space are left to the sampler.

    Args:
        past: of each past sweep what `ends` returns.
        usual: flat values of the config.
        dimensions: those that every trial has.
        level: the values that are compared.
    """
    searched = [dimension for dimension in dimensions if dimension.key not in level]
    found: list[Values] = []
    for trials in past:
        own = [each for each in trials if all(_of(each, key) == level[key] for key in level)]
        found.append(_within(searched, (own or trials)[0]))
    found.append(_within(searched, usual))
    return [one for place, one in enumerate(found) if one and one not in found[:place]]


def _within(dimensions: Sequence[Dimension], values: Mapping[str, Any]) -> Values:
    known = {dimension.key: _of(values, dimension.key) for dimension in dimensions}
    return {d.key: known[d.key] for d in dimensions if d.has(known[d.key])}


def _of(values: Mapping[str, Any], key: str) -> Any:
    return values.get(key, values.get(key + _GROUP, _MISSING))


def _records(source: str) -> Iterator[Mapping[str, Any]]:
    if Path(source).is_dir():
        yield from _of_directory(source)
        return
    if "://" not in source:
        raise UserError(
            "`sweep.warm_start` must name directories of sweeps that exist, or addresses of "
            f"studies (outputs/old/sweep, sqlite:///old.db#old), but got {source!r}"
        )
    address, name = study_reference(source)
    study, _ = the_study(address, name or None)
    for trial in counted(study.get_trials(deepcopy=False)):
        summary = trial.user_attrs.get(SUMMARY)
        if trial.state == TrialState.COMPLETE and isinstance(summary, Mapping):
            yield summary


def _of_directory(directory: str) -> Iterator[Mapping[str, Any]]:
    for folder, below, files in os.walk(directory):
        below.sort()
        if RESULT not in files:
            continue
        try:
            record = read_json(Path(folder, RESULT))
        except (OSError, ValueError, UserError):
            continue  # one that cannot be read does not stand in the others' way
        if isinstance(record, Mapping) and RERUN_OF not in record:
            yield record
