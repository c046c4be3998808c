"""Trials of one configuration taken together: its seeds, their mean and their spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.space.points import Values, canonical_values, point_name
from sweeps.storage.attributes import CONFIRMS, SAME_AS, SEED, SUMMARY, is_confirmation


@dataclass(frozen=True)
class Configuration:
    """Parameters without the seed, and what their completed trials gave.

    Attributes:
        params: the swept parameters.
        trial: number of its first completed trial.
        trials: numbers of the completed trials, one a seed, the first first; once it is
            confirmed, only those with fresh seeds: what it was chosen for flatters it.
        means: of each objective over the seeds of these.
        stds: their sample standard deviations; NaN with one seed.
        confirmed: whether fresh seeds have confirmed it.
        unfinished: how many of its trials were pruned or failed, and so are in no mean.
        epochs: trained, on average; None if unknown.
        seconds: a trial took, on average; None if unknown.
    """

    params: Mapping[str, Any]
    trial: int
    trials: tuple[int, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    confirmed: bool
    unfinished: int
    epochs: float | None
    seconds: float | None

    @property
    def seeds(self) -> int:
        """How many the means are over."""
        return len(self.trials)


def configurations(trials: Sequence[FrozenTrial]) -> list[Configuration]:
    """Those with a completed trial, in the order of their first trials.

    Args:
        trials: those that count, in the order of their numbers.
    """
    groups: dict[Hashable, list[FrozenTrial]] = {}
    by_number = {trial.number: trial for trial in trials}
    for trial in trials:
        groups.setdefault(_key(trial, by_number), []).append(trial)
    found = []
    for group in groups.values():
        complete = _one_a_seed((t for t in group if t.state == TrialState.COMPLETE), by_number)
        if complete:
            found.append(_configuration(complete, group))
    return found


def seconds_of(trial: FrozenTrial) -> float | None:
    """How long a trial took, by its own record if there is one; None while it runs."""
    summary = trial.user_attrs.get(SUMMARY) or {}
    seconds = (summary.get("timings") or {}).get("total_seconds")
    if seconds is not None:
        return float(seconds)
    return trial.duration.total_seconds() if trial.duration else None


def without_seed(params: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a configuration."""
    return {name: value for name, value in params.items() if name != SEED}


def params_of(trial: FrozenTrial) -> Values:
    """The parameters of a trial, each number in its one form."""
    return canonical_values(trial.params, trial.distributions)


def check_names(study: optuna.Study, names: Sequence[str]) -> None:
    """Raise ValueError unless there is one name for each objective of the study."""
    if len(names) != len(study.directions):
        raise ValueError(
            f"objectives must have {len(study.directions)} names, as many as the study has "
            f"directions, but got {list(names)}"
        )


def _key(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> Hashable:
    trial = by_number.get(trial.user_attrs.get(CONFIRMS, trial.number), trial)
    return point_name(without_seed(params_of(trial)), None)


def _one_a_seed(
    trials: Iterable[FrozenTrial], by_number: Mapping[int, FrozenTrial]
) -> list[FrozenTrial]:
    """The same seed again is no more evidence, nor is a copy of another configuration's trial."""
    kept: dict[Hashable, FrozenTrial] = {}
    for trial in trials:
        original = by_number.get(trial.user_attrs.get(SAME_AS, -1))
        if original is None or is_confirmation(original):  # which is of the same configuration
            seed = trial.user_attrs.get(SEED, trial.params.get(SEED))
            kept.setdefault(("unknown", trial.number) if seed is None else seed, trial)
    return list(kept.values())


def _configuration(complete: Sequence[FrozenTrial], group: Sequence[FrozenTrial]) -> Configuration:
    first = complete[0]
    fresh = [trial for trial in complete if is_confirmation(trial)]
    complete = fresh or complete
    columns = list(zip(*(trial.values for trial in complete), strict=True))
    ended = (TrialState.PRUNED, TrialState.FAIL)
    epochs = [(t.user_attrs.get(SUMMARY) or {}).get("epochs") for t in complete]
    return Configuration(
        params=without_seed(params_of(first)),
        trial=first.number,
        trials=tuple(trial.number for trial in complete),
        means=tuple(_mean(column) for column in columns),
        stds=tuple(_std(column) for column in columns),
        confirmed=bool(fresh),
        unfinished=sum(trial.state in ended for trial in group),
        epochs=_mean_of_known(epochs),
        seconds=_mean_of_known([seconds_of(trial) for trial in complete]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values)


def _std(values: Sequence[float]) -> float:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values)


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return _mean(known) if known else None
