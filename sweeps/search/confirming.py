"""The best configuration of each level is trained again with fresh seeds, shared by all.

What the search itself measured is no part of the comparison: a configuration was chosen because
that was good, and so it flatters. Seeds come in rounds, the looks of `decisions.sequential`; after
each, `decisions.decide` says which levels are surely worse or practically equal. Those get no more
seeds, and the planned number is exceeded only where something is still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from decisions import ALPHA, Decision, decide, looks
from experiments.metrics import margin
from sweeps.plan import Plan
from sweeps.results.configurations import Configuration
from sweeps.results.ranking import search_ranking
from sweeps.space.points import point_name, point_seed
from sweeps.storage.attributes import (
    POINT,
    RACE,
    SEED,
    confirmation_of,
    counted,
    is_confirmation,
    level_of,
    point_of,
)

_MORE = 1.5  # times the planned seeds, where something is open


@dataclass(frozen=True)
class Standing:
    """How the confirmation of a study stands.

    Attributes:
        candidates: the best configuration of each level; where nothing is compared, the best few.
        seeds: fresh ones, in the order in which the candidates get them.
        missing: indices of candidates and seeds that the round needs and nobody has ended.
        seen: seeds that all who are still racing have had.
        decision: by then, of the first objective; None before anything can be said.
        racing: indices of the candidates of which something is open.
    """

    candidates: tuple[Configuration, ...]
    seeds: range
    missing: tuple[tuple[int, int], ...]
    seen: int
    decision: Decision | None
    racing: tuple[int, ...]

    @property
    def is_over(self) -> bool:
        """Whether no candidate is to get another seed."""
        return not self.missing

    def wanted(self) -> list[tuple[Configuration, int]]:
        """Configurations and seeds that the round needs and nobody has ended."""
        return [(self.candidates[i], self.seeds[j]) for i, j in self.missing]

    def describe(self) -> dict[str, Any]:
        """As plain values, with each configuration by the number of its first trial.

        Keys are `candidates` and those that are still `kept` and still `racing`, best first,
        the `seeds` that the racing ones have had and may have (`most_seeds`), whether the race
        `is_over`, and `alpha`, how likely a finding may be wrong.
        """
        numbers = [candidate.trial for candidate in self.candidates]
        kept = list(range(len(numbers)))
        if self.decision is not None:
            better = [r.level for r in self.decision.rivals if not r.is_worse]
            kept = [self.decision.leader, *better]
        return {
            "candidates": numbers,
            "kept": [numbers[i] for i in kept],
            "racing": [numbers[i] for i in kept if i in self.racing],
            "seeds": self.seen,
            "most_seeds": len(self.seeds),
            "is_over": self.is_over,
            "alpha": ALPHA,
        }


def standing(study: optuna.Study, plan: Plan) -> Standing | None:
    """How the confirmation stands; None where there is nothing to confirm.

    It follows from the plan and the trials alone, so all workers agree.
    """
    trials = counted(study.get_trials(deepcopy=False))
    candidates = candidates_of(trials, study.directions, plan.compare, plan.settings.confirm)
    if not candidates:
        return None
    planned = plan.design.get("planned")
    first = max([0, *plan.space.seeds, *filter(None, map(_seed, trials))]) + 1
    seeds = range(first, first + most_seeds(plan))
    scores, ended = _scores(trials, study.directions[0], candidates, seeds)
    limit = margin(plan.objectives[0], _mean(scores), plan.settings.margins)
    racing, decision, seen = tuple(range(len(candidates))), None, 0
    for n in looks(planned, len(seeds)) or [len(seeds)]:
        missing = tuple((i, j) for j in range(n) for i in racing if not ended[i, j])
        if missing:
            return Standing(candidates, seeds, missing, seen, decision, racing)
        decision, seen = decide(scores[:, :n], limit, planned), n
        still = [r.level for r in decision.open] if decision is not None else []
        racing = (decision.leader, *still) if decision is not None and still else ()
        if not racing and (planned is None or n >= min(planned, len(seeds)) or len(candidates) > 1):
            break
        racing = racing or tuple(range(len(candidates)))  # one alone gets the planned seeds
    return Standing(candidates, seeds, (), seen, decision, racing)


def most_seeds(plan: Plan) -> int:
    """How many fresh seeds a candidate gets at most."""
    asked, planned = plan.settings.confirm_seeds, plan.design.get("planned")
    if plan.settings.confirm_most is not None:
        return max(asked, plan.settings.confirm_most)
    is_extended = planned is not None and asked > planned
    return asked if is_extended else int(-(-asked * _MORE // 1))


def candidates_of(
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    compare: Sequence[str],
    count: int,
) -> tuple[Configuration, ...]:
    """The configurations that are confirmed, the best first.

    Args:
        trials: those that count, in the order of their numbers.
        directions: of the study.
        compare: keys whose levels have one each; with none, the best `count` of all.
        count: none at all if it is 0.
    """
    if not count:
        return ()
    ranked = [entry.configuration for entry in search_ranking(trials, directions)]
    if not compare:
        return tuple(ranked[:count])
    by_number = {trial.number: trial for trial in trials}
    best: dict[str, Configuration] = {}
    for one in ranked:
        best.setdefault(level_of(by_number[one.trial], compare), one)
    return tuple(one for level, one in best.items() if level)


def note(study: optuna.Study, found: Standing | None) -> None:
    """Keep how the confirmation stands in the study, for whoever reads it."""
    if found is not None and study.user_attrs.get(RACE) != found.describe():
        study.set_user_attr(RACE, found.describe())


def _scores(
    trials: Sequence[FrozenTrial],
    direction: StudyDirection,
    candidates: Sequence[Configuration],
    seeds: range,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What candidates reached with seeds, (K, S), NaN where there is nothing, and what ended."""
    found = {point_of(t): t for t in trials if is_confirmation(t) and t.state.is_finished()}
    scores = np.full((len(candidates), len(seeds)), np.nan)
    ended = np.zeros(scores.shape, dtype=bool)
    sign = -1.0 if direction == StudyDirection.MINIMIZE else 1.0
    for i, candidate in enumerate(candidates):
        for j, seed in enumerate(seeds):
            trial = found.get(confirmation_of(point_name(candidate.params, seed)))
            if trial is not None:
                ended[i, j] = True
                if trial.state == TrialState.COMPLETE and np.isfinite(trial.values[0]):
                    scores[i, j] = sign * trial.values[0]
    return scores, ended


def _mean(scores: NDArray[np.float64]) -> float:
    """Of the best, without its sign, for margins that are a share of it."""
    known = scores[np.isfinite(scores)]
    return float(np.abs(known).max(initial=0.0))


def _seed(trial: FrozenTrial) -> int | None:
    """Of a trial of the search, also of one that failed before it was prepared."""
    if is_confirmation(trial):
        return None
    named = point_seed(trial.user_attrs[POINT]) if POINT in trial.user_attrs else None
    return trial.user_attrs.get(SEED, named)
