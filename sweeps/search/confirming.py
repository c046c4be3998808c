"""The best configurations race with fresh seeds, so that the winner is not one lucky run.

What the search itself measured is no part of the race: a configuration was chosen because that
was good, and so it flatters. See `sweeps.search.race` for who is told apart, and how surely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.plan import Plan
from sweeps.results.configurations import Configuration
from sweeps.results.ranking import as_losses, search_ranking
from sweeps.search.race import ALPHA, LEAST_SEEDS, Verdict, race
from sweeps.space.points import point_name, point_seed
from sweeps.storage.attributes import (
    POINT,
    RACE,
    SEED,
    confirmation_of,
    counted,
    is_confirmation,
    point_of,
)


@dataclass(frozen=True)
class Standing:
    """How the race in a study stands.

    Attributes:
        candidates: the best configurations of the search, best first.
        seeds: fresh ones, in the order in which the candidates get them.
        verdict: of the race.
        kept: indices of the candidates that are still in it, best first.
    """

    candidates: tuple[Configuration, ...]
    seeds: range
    verdict: Verdict
    kept: tuple[int, ...]

    @property
    def is_over(self) -> bool:
        """Whether no candidate is to get another seed."""
        return not self.verdict.racing.any() or self.verdict.seeds == len(self.seeds)

    def wanted(self) -> list[tuple[Configuration, int]]:
        """Configurations and seeds that the next round needs, or has already.

        The first round is one of as many seeds as each candidate gets in any case.
        """
        if self.is_over:
            return []
        rounds = self.seeds[: max(LEAST_SEEDS, self.verdict.seeds + 1)]
        racing = [c for c, still in zip(self.candidates, self.verdict.racing, strict=True) if still]
        return [(candidate, seed) for seed in rounds for candidate in racing]

    def describe(self) -> dict[str, Any]:
        """As plain values, with each configuration by the number of its first trial.

        Keys are `candidates` and those that are still `kept` and still `racing`, best first,
        the `seeds` that the racing ones have had and may have (`most_seeds`), whether the race
        `is_over`, and `alpha`, how likely any of its comparisons may be wrong.
        """
        numbers = [candidate.trial for candidate in self.candidates]
        return {
            "candidates": numbers,
            "kept": [numbers[i] for i in self.kept],
            "racing": [numbers[i] for i in self.kept if self.verdict.racing[i]],
            "seeds": self.verdict.seeds,
            "most_seeds": len(self.seeds),
            "is_over": self.is_over,
            "alpha": ALPHA,
        }


def standing(study: optuna.Study, plan: Plan) -> Standing | None:
    """The race in a study; None where nobody may race.

    It follows from the plan and the trials alone, so all workers agree.
    """
    trials = counted(study.get_trials(deepcopy=False))
    ranked = search_ranking(trials, study.directions)[: plan.settings.confirm]
    if not ranked:
        return None
    candidates = tuple(entry.configuration for entry in ranked)
    first = max([0, *plan.space.seeds, *filter(None, map(_seed, trials))]) + 1
    seeds = range(first, first + plan.settings.confirm_seeds)
    ended = {point_of(t): t for t in trials if is_confirmation(t) and t.state.is_finished()}
    losses = np.full((len(candidates), len(study.directions), len(seeds)), np.nan)
    for i, candidate in enumerate(candidates):
        for j, seed in enumerate(seeds):
            trial = ended.get(confirmation_of(point_name(candidate.params, seed)))
            if trial is not None:
                losses[i, :, j] = _losses(trial, study.directions)
    verdict = race(losses)
    with np.errstate(invalid="ignore"):
        means = losses[:, :, : max(1, verdict.seeds)].mean(axis=2).mean(axis=1)
    kept = sorted(np.flatnonzero(verdict.kept).tolist(), key=lambda i: (means[i], i))
    return Standing(candidates, seeds, verdict, tuple(kept))


def note(study: optuna.Study, found: Standing | None) -> None:
    """Keep how the race stands in the study, for whoever reads it."""
    if found is not None and study.user_attrs.get(RACE) != found.describe():
        study.set_user_attr(RACE, found.describe())


def outcome(race: Mapping[str, Any]) -> str:
    """How a race stands, in words, from what `Standing.describe` gave."""
    kept, racing, seeds = race["kept"], race["racing"], race["seeds"]
    after = f"after {seeds} fresh seed{'' if seeds == 1 else 's'}"
    if not kept:
        return "race: every candidate failed with a fresh seed"
    if not race["is_over"]:
        return f"race: not over, {_and(racing)} {after}"
    if not racing and len(kept) == 1:
        candidates = race.get("candidates") or race["contenders"]  # of an older version
        verb = "wins" if len(candidates) > 1 else "is confirmed"
        return f"race: {_and(kept)} {verb} {after}"
    if not racing:
        return f"race: {_and(kept)} are each better in another objective, {after}"
    others = [number for number in kept if number not in racing]
    also = f", and {_and(others)} better in another objective" if others else ""
    more = race["most_seeds"] + max(2, -(-race["most_seeds"] // 2))
    return f"race: undecided between {_and(racing)}{also} {after}; more: sweep.confirm_seeds={more}"


def _and(numbers: Sequence[int]) -> str:
    """`trial 3`, `trials 3 and 5`, `trials 3, 5 and 7`."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    *first, last = map(str, numbers)
    return f"trials {', '.join(first)} and {last}"


def _seed(trial: FrozenTrial) -> int | None:
    """Of a trial of the search, also of one that failed before it was prepared."""
    if is_confirmation(trial):
        return None
    named = point_seed(trial.user_attrs[POINT]) if POINT in trial.user_attrs else None
    return trial.user_attrs.get(SEED, named)


def _losses(
    trial: FrozenTrial, directions: Sequence[optuna.study.StudyDirection]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What an ended trial gave; infinite where it failed."""
    if trial.state != TrialState.COMPLETE:
        return np.full(len(directions), np.inf)
    losses: np.ndarray[tuple[int], np.dtype[np.float64]] = as_losses([trial.values], directions)[0]
    return np.where(np.isfinite(losses), losses, np.inf)
