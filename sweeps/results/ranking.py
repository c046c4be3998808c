"""Configurations of a study, best first, and when the best last improved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from decisions import mean_places
from sweeps.results.configurations import (
    Configuration,
    check_names,
    configurations,
)
from sweeps.storage import attributes
from sweeps.storage.private import pareto_ranks

Losses = NDArray[np.float64]


def as_losses(
    values: Sequence[Sequence[float | None]], directions: Sequence[StudyDirection]
) -> Losses:
    """Turn objective values so that lower is better and NaN (or None) is worst.

    Args:
        values: n points of m values.
        directions: m directions.

    Returns:
        (n, m).

    Raises:
        ValueError: a point does not have one value for each direction.
    """
    wrong = [point for point in values if len(point) != len(directions)]
    if wrong:
        raise ValueError(
            f"a point must have {len(directions)} values, one for each objective, "
            f"but got {list(wrong[0])}"
        )
    signs = [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in directions]
    losses = np.array(values, dtype=float).reshape(len(values), len(directions)) * signs
    return np.where(np.isnan(losses), np.inf, losses)


@dataclass(frozen=True)
class Ranked:
    """A configuration and its place.

    Attributes:
        rank: from 1; with several objectives all of a Pareto front share one.
        configuration: what was trained, and what it gave.
    """

    rank: int
    configuration: Configuration


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
    chosen = [c for c, rank in zip(found, pareto_ranks(losses), strict=True) if rank == 0]
    return [entry.configuration for entry in _ranked(chosen, study.directions, 1)]


def best(study: optuna.Study, names: Sequence[str]) -> Configuration | None:
    """The first of the ranking, or None when no trial was completed."""
    found = front(study, names)
    return found[0] if found else None


def last_improvement(study: optuna.Study, names: Sequence[str]) -> int:
    """How many trials were completed or pruned since the best value or the front last improved.

    Without a completed trial, how many there are. Trials that were pruned for now have not said
    their last, and confirmations are no part of the search.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = attributes.counted(study.get_trials(deepcopy=False))
    is_open = attributes.is_paused
    trials = [t for t in trials if not (is_open(t) or attributes.is_confirmation(t))]
    ended = [t for t in trials if t.state in states]
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


def _end_of(trial: FrozenTrial) -> tuple[int, datetime, int]:
    """A trial's place in the order in which trials ended.

    Optuna's own times are local ones, of machines whose clocks and zones differ; they count only
    where a trial has no place, as those of older versions and of other programs.
    """
    place = trial.user_attrs.get(attributes.ENDED)
    if place is not None:
        return int(place), datetime.min, trial.number
    return 0, trial.datetime_complete or datetime.max, trial.number


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
    places = mean_places(losses)
    order = sorted(range(len(group)), key=lambda i: (ranks[i], places[i], group[i].trial))
    return [Ranked(first + int(ranks[i]), group[i]) for i in order]
