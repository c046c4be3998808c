"""What a comparison found, as tables, and whether a loss's win counts, as chapters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis import labels
from analysis.comparison.results import settings
from analysis.report.content import Cell, Chapter, Column, Row, Table
from analysis.report.plots import plot
from analysis.report.tables import common_decimals, digits, number, texts
from analysis.runs import Runs

if TYPE_CHECKING:
    from analysis.comparison import Comparison, Result
    from analysis.rate_distortion import RateDistortion
    from analysis.trained.scores import Scores

_LOSS = "loss.name"
_MOST_SENTENCES = 6
_MEANINGS = {
    "best": "best: surely better than every other",
    "leads": "leads: the first, but not surely best",
    "equal": "equal: within the margin of the first",
    "open": "open: not yet told from the first",
    "worse": "worse: surely, than the first",
}


def estimates_table(comparison: Comparison) -> Table | None:
    """What each level reached on each metric, best first; None if there is nothing.

    The marks are those of the objectives; below them is how far a level is behind the first.
    """
    results = list(comparison.results.values())
    if not results:
        return None
    marks = {one.metric: one.findings() for one in comparison.primary}
    behind = {one.metric: _behind(one) for one in comparison.primary}
    rows = []
    for level in comparison.ordered:
        seeds = max(one.seeds[one.levels.index(level.name)] for one in results)
        cells = [Cell(level.name, level.name, settings(level)), number(seeds, 0)]
        for one in results:
            mark = marks.get(one.metric, {}).get(level.name, "")
            note = behind.get(one.metric, {}).get(level.name, "")
            cells.append(_mean(one, level.name, note, mark if mark in _MEANINGS else ""))
        rows.append(Row(cells))
    title = ", ".join(name.removesuffix(".name").removeprefix("loss.") for name in comparison.by)
    columns = [Column(title), Column("seeds", numeric=True)]
    columns += [Column(one.measure.title, one.measure.unit, numeric=True) for one in results]
    return Table(_caption(comparison, marks), columns, rows)


def details(comparison: Comparison) -> list[Chapter]:
    """What stands behind the table of estimates."""
    if not comparison.levels:
        return []
    found = [Chapter("chosen", "What stands for each", table=_chosen_table(comparison))]
    if len(comparison.levels) > 1:
        found.append(Chapter("pairs", "Every pair", table=_pairs_table(comparison)))
    if comparison.checks:
        title = "The same on the test images"
        found.append(Chapter("check", title, table=_check_table(comparison)))
    return found


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
    return Chapter("home", "Home advantage", found.sentences, plots=drawn)


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
        drawn
        for one in found
        for drawn in plot(
            f"{labels.title(one.metric)} against the KL",
            "Compare at one KL. Lines on top of each other are one loss at other values of beta.",
            *(f.rate_distortion, one.points, one.bands, one.metric),
        )
    ]
    sentences = [sentence for one in found for sentence in one.verdict]
    said = [*(sentences if len(sentences) <= _MOST_SENTENCES else []), *found[0].notes]
    return Chapter("rate", "At the same KL", said, _rates_table(found), plots), None


def _caption(comparison: Comparison, marks: Mapping[str, Mapping[str, str]]) -> str:
    primary = labels.listed([one.measure.title for one in comparison.primary])
    sentences = ["Means over seeds, on the validation images."]
    if len(comparison.results) > len(comparison.primary):
        sentences.append(
            f"The question is {primary}; other metrics are secondary, and bear no marks."
        )
    seen = {mark for found in marks.values() for mark in found.values()}
    if len(comparison.levels) > 1:
        sentences += [f"{meaning}." for mark, meaning in _MEANINGS.items() if mark in seen]
    return " ".join(sentences)


def _behind(result: Result) -> dict[str, str]:
    """How far each level is behind the first, with its interval."""
    found = {}
    for rival in result.decision.rivals if result.decision is not None else ():
        pair, decimals = rival.pair, result.measure.digits
        said = f"{pair.difference:z.{decimals}f} behind"
        if math.isfinite(pair.low):
            said += f", {pair.low:z.{decimals}f} to {pair.high:z.{decimals}f}"
        found[result.levels[rival.level]] = said
    return found


def _mean(result: Result, level: str, note: str = "", mark: str = "") -> Cell:
    """As many decimals as the margin shows, for what is decided; else four digits."""
    decimals = common_decimals(result.means)
    if result.measure.margin > 0:
        decimals = min(max(decimals, 1), result.measure.digits)
    return number(result.means[result.levels.index(level)], decimals, note, mark)


def _chosen_table(comparison: Comparison) -> Table:
    columns = [
        Column("level"), Column("parameters"), Column("trials"),
        Column("of", "configurations", numeric=True),
    ]  # fmt: skip
    rows = []
    for level in comparison.ordered:
        fresh = "fresh seeds" if level.confirmed else ""
        cells = texts(level.name, settings(level), ", ".join(level.own))
        rows.append(Row([*cells, number(len(level.configurations), 0, fresh)]))
    return Table("Chosen on the validation images, by the objective of the sweep.", columns, rows)


def _pairs_table(comparison: Comparison) -> Table:
    columns = [
        Column("metric"), Column("one"), Column("other"),
        Column("better by", numeric=True), Column("interval"), Column("finding"),
    ]  # fmt: skip
    rows = []
    for one in comparison.primary:
        for pair in one.pairs().itertuples():
            decimals = one.measure.digits
            cells = [*texts(one.measure.title, pair.a, pair.b), number(pair.difference, decimals)]
            interval = _interval(pair.low, pair.high, decimals)
            is_both = pair.finding == "equal" and pair.low > 0
            found = "equal, though surely better" if is_both else pair.finding
            rows.append(Row([*cells, Cell(interval, pair.low), *texts(found)]))
    margins = labels.listed(
        [f"{one.measure.title} {one.measure.said_margin}" for one in comparison.primary]
    )
    caption = (
        "Differences of means, over shared seeds where there are any, with the intervals by which "
        "they were decided. equal: the 90% interval lies within the margin "
        f"({margins}); open: neither better nor equal so far."
    )
    return Table(caption, columns, rows)


def _check_table(comparison: Comparison) -> Table:
    columns = [Column("metric"), Column("level"), Column("mean", numeric=True), Column("finding")]
    columns += [Column("images won", "by the first, %", numeric=True)] if comparison.shares else []
    rows = []
    for metric, one in comparison.checks.items():
        findings, shares = one.findings(), comparison.shares.get(metric, {})
        for level in comparison.ordered:
            cells = [*texts(one.measure.title, level.name), _mean(one, level.name)]
            cells += texts(findings.get(level.name, ""))
            if comparison.shares:
                cells.append(number(100 * shares.get(level.name, math.nan), 0))
            rows.append(Row(cells))
    caption = "The same decision on images that chose nothing, neither checkpoints nor settings."
    return Table(caption, columns, rows)


def _rates_table(found: Sequence[RateDistortion]) -> Table:
    columns = [
        Column("metric"), Column("one"), Column("other"),
        Column("KL", "nats per image", numeric=True), Column("better by", numeric=True),
        Column("the one is"),
    ]  # fmt: skip
    rows = []
    for one in found:
        for pair in one.pairs.itertuples():
            cells = texts(labels.title(one.metric), pair.a, pair.b)
            reach = number(pair.kl_low)
            if reach.sort is not None:
                reach = reach._replace(text=f"{pair.kl_low:.3g} to {pair.kl_high:.3g}")
            gain = number(pair.difference, note=_interval(pair.low, pair.high))
            rows.append(Row([*cells, reach, gain, *texts(pair.finding)]))
    caption = (
        "How much better the one is over the KLs that both reach, seed by seed, with the interval "
        "by which it was decided."
    )
    return Table(caption, columns, rows)


def _interval(low: float, high: float, decimals: int | None = None) -> str:
    """«0.12 to 0.50», or nothing where it is not known."""
    return f"{digits(low, decimals)} to {digits(high, decimals)}" if math.isfinite(low) else ""
