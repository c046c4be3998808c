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

from decisions import ALPHA, LEAST_PLAN, Array, Decision, adjusted_means, decide, looks
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
        decisions: by then, of each objective; none before anything can be said.
        racing: indices of the candidates of which something is open in an objective.
    """

    candidates: tuple[Configuration, ...]
    seeds: range
    missing: tuple[tuple[int, int], ...]
    seen: int
    decisions: tuple[Decision, ...]
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
        if self.decisions:
            good = [
                level
                for found in self.decisions
                for level in (found.leader, *(r.level for r in found.rivals if not r.is_worse))
            ]
            kept = list(dict.fromkeys(good))
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
    scores, ended = _scores(trials, study.directions, candidates, seeds)
    margins = plan.design.get("margins")
    limits = [
        margin(name, _best(own), margins) for name, own in zip(plan.objectives, scores, strict=True)
    ]
    racing, found, seen = tuple(range(len(candidates))), tuple[Decision, ...](), 0
    for n in looks(planned, len(seeds)):
        missing = tuple((i, j) for j in range(n) for i in racing if not ended[i, j])
        if missing:
            return Standing(candidates, seeds, missing, seen, found, racing)
        decided = [decide(own[:, :n], m, planned) for own, m in zip(scores, limits, strict=True)]
        found, seen = tuple(one for one in decided if one is not None), n
        racing = _racing(found, is_planned=n < max(planned or 0, plan.settings.confirm_seeds))
        if not racing:
            break
    return Standing(candidates, seeds, (), seen, found, racing)


def _best(gains: Array) -> float:
    """The best mean of a candidate; 0 where none has a score yet."""
    means = adjusted_means(gains)
    return float(np.nanmax(means)) if np.isfinite(means).any() else 0.0


def _racing(found: Sequence[Decision], *, is_planned: bool) -> tuple[int, ...]:
    """Who is to get more seeds.

    Args:
        found: the decisions of the objectives.
        is_planned: there are seeds left that were planned or asked for. Then one without a rival
            gets them as well, and so do those that are too close to call.
    """
    levels = set()
    for one in found:
        still = [r.level for r in one.open if is_planned or r.seeds_needed is not None]
        if still or (is_planned and not one.rivals):
            levels |= {one.leader, *still}
    return tuple(sorted(levels))


def most_seeds(plan: Plan) -> int:
    """How many fresh seeds a candidate gets at most, up to a look: fewer would change nothing."""
    asked, planned = plan.settings.confirm_seeds, plan.design.get("planned")
    most = plan.settings.confirm_most
    if most is None:
        is_extended = planned is not None and asked > planned
        most = asked if is_extended else int(-(-asked * _MORE // 1))
    most = max(asked, most)
    return next(n for n in looks(planned, 2 * most + LEAST_PLAN) if n >= most)


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
    directions: Sequence[StudyDirection],
    candidates: Sequence[Configuration],
    seeds: range,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What M objectives of K candidates are with S seeds, and what ended.

    Returns:
        (M, K, S), more is better, NaN where there is nothing; and (K, S).
    """
    found = {point_of(t): t for t in trials if is_confirmation(t) and t.state.is_finished()}
    scores = np.full((len(directions), len(candidates), len(seeds)), np.nan)
    ended = np.zeros(scores.shape[1:], dtype=bool)
    signs = np.array([-1.0 if way == StudyDirection.MINIMIZE else 1.0 for way in directions])
    for i, candidate in enumerate(candidates):
        for j, seed in enumerate(seeds):
            trial = found.get(confirmation_of(point_name(candidate.params, seed)))
            if trial is not None:
                ended[i, j] = True
                if trial.state == TrialState.COMPLETE and np.isfinite(trial.values).all():
                    scores[:, i, j] = signs * trial.values
    return scores, ended


def _seed(trial: FrozenTrial) -> int | None:
    """Of a trial of the search, also of one that failed before it was prepared."""
    if is_confirmation(trial):
        return None
    named = point_seed(trial.user_attrs[POINT]) if POINT in trial.user_attrs else None
    return trial.user_attrs.get(SEED, named)
