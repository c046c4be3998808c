"""What the trials of a study say of the levels that it compares."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from decisions import Decision, decide
from decisions.answer import Answer, Level, Measure, answer
from decisions.observations import Observation, Scores, scores_of
from experiments.metrics import METRICS, margin
from sweeps.results.configurations import check_names, params_of, seconds_of
from sweeps.storage.attributes import DESIGN, SEED, counted, is_confirmation, name_of

_USUAL = "loss"


@dataclass(frozen=True)
class Comparison:
    """By one objective.

    Attributes:
        objective: its name.
        scores: of the levels.
        decision: about them.
        answer: in sentences.
        seconds: that a training of each level takes; None if unknown.
    """

    objective: str
    scores: Scores
    decision: Decision
    answer: Answer
    seconds: tuple[float | None, ...]


def comparisons(study: optuna.Study, names: Sequence[str]) -> list[Comparison]:
    """What a study has found of its levels, by each objective; empty where it compares nothing.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    trials = counted(study.get_trials(deepcopy=False))
    design: Mapping[str, Any] = study.user_attrs.get(DESIGN) or {}
    keys = design.get("compare", _usual(trials))
    trials = [t for t in trials if keys and t.state.is_finished() and _has(t, keys)]
    found = []
    for place, name in enumerate(names):
        scores = scores_of(_observations(trials, keys, place, study.directions[place]))
        compared = _compared(name, scores, design, trials)
        found += [compared] if compared is not None else []
    return found


def _compared(
    name: str, scores: Scores, design: Mapping[str, Any], trials: Sequence[FrozenTrial]
) -> Comparison | None:
    metric = METRICS[name]
    sign = 1 if metric.direction == "maximize" else -1
    known = scores.values[np.isfinite(scores.values)]
    limit = margin(name, float(np.abs(known).max(initial=0)), design.get("margins"))
    decision = decide(scores.values, limit, design.get("planned"))
    if decision is None or len(scores.levels) + len(scores.left_out) < 2:
        return None
    levels = []
    for i, level in enumerate(scores.levels):
        own = scores.values[i][np.isfinite(scores.values[i])]
        times = [seconds_of(trial) for trial in trials if trial.number in scores.names[i]]
        timed = [seconds for seconds in times if seconds is not None]
        seconds = sum(timed) / len(timed) if timed else None
        mean = sign * float(own.mean()) if len(own) else np.nan
        levels.append(Level(level, _settings(scores.chosen[i]), mean, len(own), seconds))
    measure = Measure(metric.title, metric.unit, limit, sign > 0)
    said = answer(decision, levels, measure)
    return Comparison(name, scores, decision, said, tuple(level.seconds for level in levels))


def _usual(trials: Sequence[FrozenTrial]) -> Sequence[str]:
    """What studies of older versions compare."""
    return [_USUAL] if len({t.params[_USUAL] for t in trials if _USUAL in t.params}) > 1 else []


def _has(trial: FrozenTrial, keys: Sequence[str]) -> bool:
    return trial.params.keys() >= set(keys) and trial.state != TrialState.PRUNED


def _observations(
    trials: Sequence[FrozenTrial], keys: Sequence[str], place: int, direction: StudyDirection
) -> list[Observation]:
    sign = -1.0 if direction == StudyDirection.MINIMIZE else 1.0
    found = []
    for trial in trials:
        params = params_of(trial)
        score = sign * trial.values[place] if trial.state == TrialState.COMPLETE else np.nan
        found.append(
            Observation(
                level=name_of({key: params[key] for key in keys}),
                configuration={
                    k: _hashable(v) for k, v in params.items() if k not in keys and k != SEED
                },
                seed=trial.user_attrs.get(SEED, trial.params.get(SEED)),
                score=score if np.isfinite(score) else np.nan,
                is_fresh=is_confirmation(trial),
                name=trial.number,
            )
        )
    return found


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else json.dumps(value)


def _settings(chosen: Mapping[str, Hashable]) -> str:
    """`latent_dim 64, lr 0.001`."""
    return ", ".join(
        f"{key.rpartition('.')[2]} {value:.4g}" if isinstance(value, float)
        else f"{key.rpartition('.')[2]} {value}"
        for key, value in chosen.items()
    )  # fmt: skip
