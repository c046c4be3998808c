"""Chapters on whether a loss's win counts: away from home, and at the same KL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis import labels
from analysis.report.content import Chapter, Plot
from analysis.report.plots import plot
from analysis.report.tables import Cell, Column, Row, Table, digits, number
from analysis.runs import Runs

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from analysis.rate_distortion import RateDistortion
    from analysis.trained.scores import Scores

_LOSS = "loss.name"
_MOST_SENTENCES = 6


def home_chapter(comparison: Comparison, scores: Scores | None) -> Chapter | None:
    """Every model under every loss and every metric; None where fewer than two were scored."""
    from analysis import figures as f
    from analysis.home import home_advantage

    found = home_advantage(comparison, scores)
    if len(found.values) < 2:
        return None
    drawn = plot(
        "Every model under every loss",
        "Darker is better in a column. A star: first only where it was trained to be.",
        *(f.home_advantage, found.values, found.ranks, found.marks),
        wide=True,
    )
    return Chapter("home", "Home advantage", found.sentences, plots=_present(drawn))


def rate_chapter(
    runs: Runs, by: Sequence[str], margins: Mapping[str, float] | None = None
) -> tuple[Chapter | None, str | None]:
    """Losses at the same KL, on what the records say of the validation or test images.

    Returns:
        The chapter, None where no two losses were trained at several values of `beta`; then the
        command that trains them, None where there are no two losses.
    """
    from analysis import figures as f
    from analysis.rate_distortion import rate_distortion

    if _LOSS not in by:
        return None, None
    metrics = [name for name in runs.objectives if labels.is_quality(name)] or ["psnr"]
    found = [rate_distortion(runs, metric=metric, by=by, margins=margins) for metric in metrics]
    if found[0].command is not None:
        return None, found[0].command
    plots = [
        plot(
            f"{labels.title(one.metric)} against the KL",
            "Compare at one KL. Lines on top of each other are one loss at other values of beta.",
            *(f.rate_distortion, one.points, one.bands, one.metric),
        )
        for one in found
    ]
    sentences = [sentence for one in found for sentence in one.verdict]
    sentences = sentences if len(sentences) <= _MOST_SENTENCES else []
    table = _pairs_table(found)
    return Chapter(
        "rate", "At the same KL", [*sentences, *found[0].notes], table, _present(*plots)
    ), None


def _pairs_table(found: Sequence[RateDistortion]) -> Table:
    columns = [
        Column("metric"), Column("one"), Column("other"),
        Column("KL", "nats per image", numeric=True), Column("better by", numeric=True),
        Column("the one is"),
    ]  # fmt: skip
    rows = []
    for one in found:
        title = labels.title(one.metric)
        for pair in one.pairs.itertuples():
            gain = number(pair.difference)
            if gain.sort is not None and math.isfinite(pair.low):
                gain = Cell(gain.text, gain.sort, f"{digits(pair.low)} to {digits(pair.high)}")
            reach = number(pair.kl_low)
            if reach.sort is not None:
                reach = Cell(f"{pair.kl_low:.3g} to {pair.kl_high:.3g}", reach.sort)
            texts = [Cell(text, text) for text in (title, str(pair.a), str(pair.b))]
            rows.append(Row([*texts, reach, gain, Cell(pair.finding, pair.finding)]))
    caption = (
        "How much better the one is over the KLs that both reach, seed by seed, with the interval "
        "by which it was decided."
    )
    return Table(caption, columns, rows)


def _present(*plots: Plot | None) -> list[Plot]:
    return [drawn for drawn in plots if drawn is not None]
