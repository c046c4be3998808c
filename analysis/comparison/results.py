"""One metric, decided: what each level reached on it, and what `decisions` finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

import decisions
from analysis import labels
from analysis.comparison.levels import Level
from decisions import Answer, Array, Candidate, Decision, Measure, Pair
from experiments import metrics


@dataclass(frozen=True)
class Result:
    """What each level reached on a metric.

    Attributes:
        metric: its name.
        levels: names of the levels.
        gains: (K, S) of the metric with each seed, of which more is better: the negative where
            less is; NaN where a level has none.
        measure: its title, unit and margin.
        planned: how many seeds were meant to be trained before anybody looked; None if unknown.
        among: (C, S) for each level, the gains of all configurations from which its seeds chose.
        decision: what is found; None where nothing may be: of seconds, of what is neither good
            nor bad, and where no level has a score.
    """

    metric: str
    levels: tuple[str, ...]
    gains: Array
    measure: Measure
    planned: int | None
    among: tuple[Array, ...]
    decision: Decision | None

    @property
    def means(self) -> Array:
        """Of each level over the seeds that it has, in the metric's unit; NaN without scores."""
        means: Array = labels.sign(self.metric) * decisions.means_of(self.gains)
        return means

    @property
    def seeds(self) -> list[int]:
        """How many each level was judged by."""
        return [int(count) for count in np.isfinite(self.gains).sum(axis=1)]

    def findings(self) -> dict[str, str]:
        """For each level «best», «equal», «worse» or «open»; the leader of open ones «leads»."""
        if self.decision is None:
            return {}
        found = {self.levels[self.decision.leader]: "best" if self.decision.is_best else "leads"}
        for rival in self.decision.rivals:
            word = "equal" if rival.is_equal else "worse" if rival.is_worse else "open"
            found[self.levels[rival.level]] = word
        return found

    def every_pair(self) -> dict[tuple[int, int], decisions.Pair]:
        """How much better the first of every two levels is, as the decision has it of its leader's.

        So what is open there is open here. Two others are compared at a level that is divided by
        the number of all pairs.
        """
        pairs = decisions.all_pairs(self.gains, self.planned, among=self.among)
        if self.decision is None:
            return pairs
        leader = self.decision.leader
        for rival in self.decision.rivals:
            key = min(leader, rival.level), max(leader, rival.level)
            pairs[key] = rival.pair if key[0] == leader else rival.pair.reversed()
        return pairs

    def pairs(self) -> pd.DataFrame:
        """Every two levels, the better one first: how much better `a` is than `b`."""
        rows = []
        for (i, j), pair in self.every_pair().items():
            if pair.difference < 0:
                i, j, pair = j, i, pair.reversed()
            names = self.metric, self.levels[i], self.levels[j]
            found = (pair.difference, pair.low, pair.high, finding(pair, self.measure.margin))
            rows.append((*names, *found, pair.seeds, pair.paired))
        columns = ["metric", "a", "b", "difference", "low", "high", "finding", "seeds", "paired"]
        return pd.DataFrame(rows, columns=columns)


def finding(pair: Pair, margin: float) -> str:
    """What is found of the first of two: «better», «worse», «equal» or «open»."""
    if pair.is_within(margin):
        return "equal"
    if not pair.is_sure:
        return "open"
    return "better" if pair.difference > 0 else "worse"


def result(
    metric: str,
    levels: Sequence[Level],
    values: Mapping[str, float],
    planned: int | None,
    margins: Mapping[str, float],
    *,
    decided: bool = True,
) -> Result | None:
    """What levels reached on a metric; None where none has it.

    Args:
        metric: its name, or `seconds/epoch`.
        levels: to compare.
        values: of the metric, for each trial.
        planned: see `decisions.decide`.
        margins: that a user has changed.
        decided: whether to decide who is best.
    """
    sign = labels.sign(metric)
    gains = np.stack([sign * level.scores(values) for level in levels])
    if not np.isfinite(gains).any():
        return None
    best = float(np.nanmax(decisions.adjusted_means(gains)))
    margin = metrics.margin(metric, best, margins) if metric in metrics.METRICS else 0.0
    measure = Measure(labels.title(metric), labels.unit(metric), margin, sign > 0)
    among = tuple(sign * level.table(values) for level in levels)
    decision = decisions.decide(gains, margin, planned, among=among) if decided else None
    names = tuple(level.name for level in levels)
    return Result(metric, names, gains, measure, planned, among, decision)


def answer(result: Result, levels: Sequence[Level]) -> Answer:
    """What the decision of a result says."""
    assert result.decision is not None
    return decisions.answer(result.decision, candidates(result, levels), result.measure)


def candidates(result: Result, levels: Sequence[Level]) -> list[Candidate]:
    """Levels by what they reached on a metric."""
    return [
        Candidate(level.name, settings(level), float(mean), seeds, level.failed, level.seconds)
        for level, mean, seeds in zip(levels, result.means, result.seeds, strict=True)
    ]


def settings(level: Level) -> str:
    """What else was chosen for a level: «latent 64, lr 0.0003»."""
    others = (labels.group_label({key: value}) for key, value in level.parameters.items())
    return ", ".join(text for text in others if f", {text}, " not in f", {level.name}, ")
