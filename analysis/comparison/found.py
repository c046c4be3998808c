"""What a comparison found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

import decisions
from analysis import labels
from analysis.commands import Settling
from analysis.comparison.levels import Level
from analysis.comparison.results import Result
from decisions import Array


@dataclass(frozen=True)
class Comparison:
    """Who is better at what, and how sure that is.

    Attributes:
        by: columns whose values are the levels.
        levels: that are compared, and the trials that stand for them.
        objectives: the primary questions.
        results: by metric, on the validation images, by which the sweep itself decided: those of
            the objectives first. The others are secondary: each is decided at the full level, so
            that of many one may be wrong.
        checks: the objectives' on the test images, which chose nothing; empty without scores.
        shares: by objective, the share of test images on which the leader is better than each
            rival, the mean over seeds; empty without scores of single images.
        notes: what a reader has to know.
        verdict: the answer, in sentences.
        planned: how many seeds were meant to be trained before anybody looked; None if unknown.
        settling: the command that would probably settle what is open; None where nothing is.
    """

    by: tuple[str, ...]
    levels: tuple[Level, ...]
    objectives: tuple[str, ...]
    results: Mapping[str, Result]
    checks: Mapping[str, Result] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    verdict: Sequence[str] = ()
    planned: int | None = None
    settling: Settling | None = None

    @property
    def ordered(self) -> tuple[Level, ...]:
        """The levels, best first by the first objective."""
        if not self.primary:
            return self.levels
        gains = decisions.adjusted_means(self.primary[0].gains)
        order = np.argsort(-np.nan_to_num(gains, nan=-np.inf), kind="stable")
        return tuple(self.levels[i] for i in order)

    @property
    def recommended(self) -> tuple[str, ...]:
        """The trials of what the answer says to use, one a seed; none where there is no answer.

        Of several objectives that no level is good by, the first counts.
        """
        found = [one.decision for one in self.primary if one.decision is not None]
        if not found:
            return ()
        good = decisions.good_by_all(found)
        return tuple(self.levels[found[0].leader if good is None else good].own)

    @property
    def primary(self) -> list[Result]:
        """The results of the objectives."""
        return [self.results[name] for name in self.objectives if name in self.results]

    @property
    def estimates(self) -> pd.DataFrame:
        """A row a level and metric: `group`, `metric`, `mean`, Student's `low`, `high`; `seeds`."""
        rows = [
            (level, one.metric, mean, mean - (half := student(gains)), mean + half, count)
            for one in self.results.values()
            for level, mean, gains, count in zip(
                one.levels, one.means, labels.sign(one.metric) * one.gains, one.seeds, strict=True
            )
        ]
        return pd.DataFrame(rows, columns=["group", "metric", "mean", "low", "high", "seeds"])

    @property
    def pairs(self) -> pd.DataFrame:
        """A row an objective and two levels, as `Result.pairs`."""
        found = [one.pairs() for one in self.primary]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def student(values: Array) -> float:
    """Half of Student's 95% interval of the mean of a level's seeds; NaN with one seed."""
    from scipy.stats import t

    known = values[np.isfinite(values)]
    if len(known) < 2:
        return np.nan
    return float(t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
