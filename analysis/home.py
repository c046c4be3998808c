"""The home-advantage matrix: every model under every loss, and who wins only on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import labels
from analysis.comparison import Comparison
from analysis.labels import DISTANCE
from experiments.metrics import METRICS, measured

if TYPE_CHECKING:
    from analysis.trained.scores import Scores

_SQUARED = ("mse", "kornia_charbonnier", "kornia_cauchy", "kornia_geman_mcclure", "kornia_welsch")
"""Kornia's robust losses are close to half a square for residuals in [0, 1]."""
_ABSOLUTE = ("l1", "charbonnier")
_STRUCTURAL = ("ssim", "ms_ssim", "kornia_ssim", "kornia_ms_ssim")
_FAMILIES = {
    **dict.fromkeys(_SQUARED, _SQUARED),
    **dict.fromkeys(_ABSOLUTE, _ABSOLUTE),
    **dict.fromkeys(_STRUCTURAL, _STRUCTURAL),
    "kornia_ms_ssim": (*_STRUCTURAL, *_ABSOLUTE),  # a mix with L1
}
"""The losses that measure much the same as the one that trained a model."""
_MIX = ("l1", "ms_ssim")  # its default terms


@dataclass(frozen=True)
class HomeAdvantage:
    """Models (rows, by group) under metrics and losses' distances (columns).

    A model is at home in the distance of its own loss, in those of close kin (squared, absolute
    or structural differences), and in the metrics that are one of these under another name.

    Attributes:
        values: means over seeds and images.
        ranks: place in the column, 1 the best.
        marks: whether the model is first here, where it is at home, and nowhere away from home.
        sentences: the same in words.
    """

    values: pd.DataFrame
    ranks: pd.DataFrame
    marks: pd.DataFrame
    sentences: list[str]


def home_advantage(comparison: Comparison, scores: Scores | None) -> HomeAdvantage:
    """Who wins on whose ground.

    Wins are by the mean; whether one is certain is for the comparison to say.

    Args:
        comparison: whose chosen trials are the models.
        scores: of these trials; those on other images than most are left out. Without them the
            tables are empty.
    """
    rows: dict[str, dict[str, float]] = {}
    homes: dict[str, frozenset[str]] = {}
    if scores is not None:
        own = [trial for level in comparison.levels for trial in level.own]
        comparable = scores.on_common_images(own)
        for level in comparison.ordered:
            found = [scores.values[trial] for trial in level.own if trial in comparable]
            if found:
                rows[level.name] = _means(found)
                homes[level.name] = home(level.parameters)
    values = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    values = values[sorted(values, key=lambda column: column.startswith(DISTANCE))]
    ranks = values.apply(lambda column: (-labels.sign(str(column.name)) * column).rank())
    first = ranks.eq(1)
    at_home = pd.DataFrame(
        [[column in homes[group] for column in values.columns] for group in values.index],
        index=values.index, columns=values.columns, dtype=bool,
    )  # fmt: skip
    away = (first & ~at_home).any(axis=1)
    marks = (first & at_home).mul(~away, axis=0).astype(bool)
    return HomeAdvantage(values, ranks, marks, _sentences(first, at_home))


def home(parameters: Mapping[str, Any]) -> frozenset[str]:
    """The columns in which a model is at home.

    Args:
        parameters: its `loss.name`, and the `loss.terms` of a mix other than the default.
    """
    name = str(parameters.get("loss.name"))
    terms = parameters.get("loss.terms") or _MIX
    trained = [str(term) for term in terms] if name == "mix" else [name]
    kin = [name, *(member for term in trained for member in _FAMILIES.get(term, (term,)))]
    metrics = [metric.name for metric in METRICS.values() if set(kin) & set(metric.home_of)]
    return frozenset([*(DISTANCE + member for member in kin), *metrics])


def _means(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of each column that all seeds have, over seeds and images."""
    known = measured("reconstructions")
    wanted = (c for c in found[0] if c in known or c.startswith(DISTANCE))
    columns = [c for c in wanted if all(c in values for values in found)]
    return {c: float(np.mean([np.mean(values[c]) for values in found])) for c in columns}


def _sentences(first: pd.DataFrame, at_home: pd.DataFrame) -> list[str]:
    if len(first) < 2:
        return []
    lines, winless = [], []
    for group in first.index:
        wins = first.loc[group]
        won_at_home = [labels.title(c) for c in first.columns if wins[c] and at_home.loc[group, c]]
        won_away = [labels.title(c) for c in first.columns if wins[c] and not at_home.loc[group, c]]
        if won_away:
            where = f" and at home on {labels.listed(won_at_home)}" if won_at_home else ""
            lines.append(f"{group} wins away from home on {labels.listed(won_away)}{where}")
        elif won_at_home:
            lines.append(
                f"{group} wins only at home, on {labels.listed(won_at_home)}: "
                "that is what it was trained for"
            )
        else:
            winless.append(str(group))
    if winless:
        nowhere = "wins" if len(winless) == 1 else "win"
        few = len(winless) <= labels.MOST_NAMED
        who = labels.listed(winless) if few else f"the other {len(winless)}"
        lines.append(f"{who} {nowhere} nowhere, at home neither")
    return [*lines, "wins are by the mean, without a test: what is sure, the answer says"]
