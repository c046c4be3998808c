"""What a study has found. Nothing but the study is read, wherever its storage is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from experiments.files import replacing
from sweeps.configurations import (
    Configuration,
    check_names,
    configurations,
    params_of,
    seconds_of,
)
from sweeps.importance import importances
from sweeps.pareto import Losses, as_losses, on_front, pareto_ranks
from sweeps.study import attributes

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Ranked",
    "best",
    "front",
    "importances",
    "last_improvement",
    "last_report",
    "optimization_results",
    "ranking",
    "rows",
    "search_ranking",
    "table",
    "write_results",
]


@dataclass(frozen=True)
class Ranked:
    """A configuration and its place.

    Attributes:
        rank: from 1; with several objectives all of a Pareto front share one.
        configuration: what was trained, and what it gave.
    """

    rank: int
    configuration: Configuration


def rows(study: optuna.Study, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row a trial, without those that were withdrawn or repeated as another.

    Keys are `number`, `state` (Optuna's, in lower case), `params/<name>`, `seed`,
    `objective/<name>` (of an unfinished trial its last report), `val/<metric>`, `epochs`,
    `seconds`, `directory`, `reason`. A trial lacks what it does not have.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    trials = attributes.counted(study.get_trials(deepcopy=False))
    return [_row(trial, names) for trial in trials]


def table(study: optuna.Study, names: Sequence[str] | None = None) -> pd.DataFrame:
    """`rows` as a data frame; `names` default to those that the study was given, or to numbers.

    Raises:
        ValueError: there is not one name for each objective.
    """
    import pandas as pd

    if names is None:
        names = study.metric_names or [str(i) for i in range(len(study.directions))]
    return pd.DataFrame(rows(study, names))


def ranking(study: optuna.Study, names: Sequence[str]) -> list[Ranked]:
    """The configurations with a completed trial, best first.

    By the mean over their seeds; by Pareto rank of the means with several objectives, and in a
    front those first whose places in the single objectives are best on average. Configurations
    that were confirmed with fresh seeds stand above all others, since the best of many single
    runs is partly luck, and above those the ones that won their race or are still in it.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    ranked: list[Ranked] = []
    for group in _groups(study):
        above = ranked[-1].rank if ranked else 0
        ranked += _ranked(group, study.directions, above + 1)
    return ranked


def search_ranking(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[Ranked]:
    """The same by the search alone, as if nothing had been confirmed.

    Args:
        trials: those that count, in the order of their numbers.
        directions: of the study.
    """
    search = [t for t in trials if not attributes.is_confirmation(t)]
    return _ranked(configurations(search), directions, 1)


def front(study: optuna.Study, names: Sequence[str]) -> list[Configuration]:
    """Those of rank 1, without ranking the rest: cheap enough for a live view."""
    check_names(study, names)
    found = next(filter(None, _groups(study)), None)
    if not found:
        return []
    losses = as_losses([c.means for c in found], study.directions)
    chosen = [c for c, best in zip(found, on_front(losses), strict=True) if best]
    return [entry.configuration for entry in _ranked(chosen, study.directions, 1)]


def best(study: optuna.Study, names: Sequence[str]) -> Configuration | None:
    """The first of the ranking, or None when no trial was completed."""
    found = front(study, names)
    return found[0] if found else None


def last_improvement(study: optuna.Study, names: Sequence[str]) -> int:
    """How many trials were completed or pruned since the best value or the front last improved.

    Without a completed trial, how many there are. Confirmations are no part of the search.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = attributes.counted(study.get_trials(deepcopy=False))
    ended = [t for t in trials if t.state in states and not attributes.is_confirmation(t)]
    ended.sort(key=_end_of)
    since = 0
    known = np.empty((0, len(study.directions)))
    for trial in ended:
        since += 1
        if trial.state == TrialState.COMPLETE:
            point = as_losses([trial.values], study.directions)
            if np.isfinite(point).all() and not (known <= point).all(axis=1).any():
                known = np.concatenate([known[(known < point).any(axis=1)], point])
                since = 0
    return since


def optimization_results(study: optuna.Study, names: Sequence[str]) -> dict[str, Any]:
    """What Hydra's own sweeper writes at the end, of configurations and means over their seeds.

    Returns:
        `name`, and `best_params` and `best_value` for one objective or `solutions` for several.

    Raises:
        ValueError: there is not one name for each objective.
    """
    found = front(study, names)
    if len(names) > 1:
        solutions = [{"params": dict(c.params), "values": list(c.means)} for c in found]
        return {"name": "optuna", "solutions": solutions}
    if not found:
        return {"name": "optuna", "best_params": {}, "best_value": None}
    first = found[0]
    return {"name": "optuna", "best_params": dict(first.params), "best_value": first.means[0]}


def write_results(path: str | Path, study: optuna.Study, names: Sequence[str]) -> None:
    """Replace a YAML file by `optimization_results`, whole or not at all.

    Raises:
        ValueError: there is not one name for each objective.
        OSError: the file cannot be written.
    """
    import yaml

    path = Path(path)
    text = yaml.safe_dump(optimization_results(study, names), sort_keys=False, allow_unicode=True)
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _end_of(trial: FrozenTrial) -> tuple[int, datetime, int]:
    """A trial's place in the order in which trials ended.

    Optuna's own times are local ones, of machines whose clocks and zones differ; they count only
    where a trial has no place, as those of older versions and of other programs.
    """
    place = trial.user_attrs.get(attributes.ENDED)
    if place is not None:
        return int(place), datetime.min, trial.number
    return 0, trial.datetime_complete or datetime.max, trial.number


def last_report(trial: FrozenTrial) -> tuple[int, list[float | None]] | None:
    """The epoch and the values of the last validation that a trial has reported."""
    if trial.last_step is not None:
        return trial.last_step, [trial.intermediate_values[trial.last_step]]
    reports = trial.user_attrs.get(attributes.REPORTS)
    if not reports:
        return None
    epoch = max(map(int, reports))
    return epoch, list(reports[str(epoch)])


def _row(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Any]:
    attrs = trial.user_attrs
    summary = attrs.get(attributes.SUMMARY) or {}
    report = last_report(trial)
    values = trial.values or (report[1] if report else ())
    scores = (summary.get("metrics") or {}).get("val", {})
    row = {
        "number": trial.number,
        "state": trial.state.name.lower(),
        **{f"params/{name}": value for name, value in params_of(trial).items()},
        "seed": attrs.get(attributes.SEED, trial.params.get(attributes.SEED)),
        **{f"objective/{name}": value for name, value in zip(names, values, strict=False)},
        **{f"val/{name}": value for name, value in scores.items()},
        "epochs": summary.get("epochs", report[0] if report else None),
        "seconds": seconds_of(trial),
        "directory": attrs.get(attributes.DIRECTORY),
        "reason": attrs.get(attributes.REASON),
    }
    return {key: value for key, value in row.items() if value is not None}


def _groups(study: optuna.Study) -> list[list[Configuration]]:
    """The configurations still in the race, the others that were confirmed, and the rest."""
    found = configurations(attributes.counted(study.get_trials(deepcopy=False)))
    kept = (study.user_attrs.get(attributes.RACE) or {}).get("kept", ())
    groups: list[list[Configuration]] = [[], [], []]
    for one in found:
        groups[(0 if one.trial in kept else 1) if one.confirmed else 2].append(one)
    return groups


def _ranked(
    group: Sequence[Configuration], directions: Sequence[StudyDirection], first: int
) -> list[Ranked]:
    if not group:
        return []
    losses = as_losses([c.means for c in group], directions)
    ranks = pareto_ranks(losses)
    places = _mean_places(losses)
    order = sorted(range(len(group)), key=lambda i: (ranks[i], places[i], group[i].trial))
    return [Ranked(first + int(ranks[i]), group[i]) for i in order]


def _mean_places(losses: Losses) -> list[float]:
    """The place of each point in each objective, averaged over these."""
    columns = [np.unique(column, return_inverse=True)[1] for column in losses.T]
    return [float(place) for place in np.mean(columns, axis=0)]
