"""The tables of a comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis import labels
from analysis.comparison.results import settings
from analysis.report.content import Detail
from analysis.report.tables import Cell, Column, Row, Table, common_decimals, number

if TYPE_CHECKING:
    from analysis.comparison import Comparison, Result

_MARKS = {"best": "best", "leads": "leads", "equal": "equal", "open": "open", "worse": ""}
_MEANINGS = {
    "best": "best: surely better than every other",
    "leads": "leads: the first, but not surely best",
    "equal": "equal: within the margin of the first",
    "open": "open: not yet told from the first",
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
            mean = number(one.means[one.levels.index(level.name)], _decimals(one))
            mark = _MARKS[marks.get(one.metric, {}).get(level.name, "worse")]
            note = behind.get(one.metric, {}).get(level.name, "")
            cells.append(Cell(mean.text, mean.sort, note, mark))
        rows.append(Row(cells))
    title = ", ".join(name.removesuffix(".name").removeprefix("loss.") for name in comparison.by)
    columns = [Column(title), Column("seeds", numeric=True), *map(_column, results)]
    return Table(_caption(comparison, marks), columns, rows)


def details(comparison: Comparison) -> list[Detail]:
    """What stands behind the table of estimates."""
    if not comparison.levels:
        return []
    found = [Detail("chosen", "What stands for each", _chosen_table(comparison))]
    if len(comparison.levels) > 1:
        found.append(Detail("pairs", "Every pair", _pairs_table(comparison)))
    if comparison.checks:
        found.append(Detail("check", "The same on the test images", _check_table(comparison)))
    return found


def _caption(comparison: Comparison, marks: dict[str, dict[str, str]]) -> str:
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
    if result.decision is None:
        return {}
    found = {}
    for rival in result.decision.rivals:
        pair, digits = rival.pair, result.measure.digits
        said = f"{pair.difference:z.{digits}f} behind"
        if math.isfinite(pair.low):
            said += f" ({pair.low:z.{digits}f} to {pair.high:z.{digits}f})"
        found[result.levels[rival.level]] = said
    return found


def _chosen_table(comparison: Comparison) -> Table:
    columns = [
        Column("level"), Column("parameters"), Column("trials"),
        Column("of", "configurations", numeric=True),
    ]  # fmt: skip
    rows = []
    for level in comparison.ordered:
        texts = [level.name, settings(level), ", ".join(level.own)]
        fresh = "fresh seeds" if level.confirmed else ""
        of = number(len(level.configurations), 0)
        cells = [Cell(text, text) for text in texts]
        rows.append(Row([*cells, Cell(of.text, of.sort, fresh)]))
    return Table("Chosen on the validation images, by the objective of the sweep.", columns, rows)


def _pairs_table(comparison: Comparison) -> Table:
    columns = [
        Column("metric"), Column("one"), Column("other"),
        Column("better by", numeric=True), Column("interval"), Column("finding"),
    ]  # fmt: skip
    rows = []
    for one in comparison.primary:
        for pair in one.pairs().itertuples():
            digits = one.measure.digits
            interval = ""
            if math.isfinite(pair.low):
                interval = f"{number(pair.low, digits).text} to {number(pair.high, digits).text}"
            title = one.measure.title
            texts = [Cell(text, text) for text in (title, str(pair.a), str(pair.b))]
            said = Cell(pair.finding, pair.finding)
            rows.append(
                Row([*texts, number(pair.difference, digits), Cell(interval, pair.low), said])
            )
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
            mean = one.means[one.levels.index(level.name)]
            word = findings.get(level.name, "")
            cells = [Cell(text, text) for text in (one.measure.title, level.name)]
            cells += [number(mean, _decimals(one)), Cell(word, word)]
            share = shares.get(level.name)
            cells += [number(100 * share if share is not None else None, 0)] * bool(
                comparison.shares
            )
            rows.append(Row(cells))
    caption = "The same decision on images that chose nothing, neither checkpoints nor settings."
    return Table(caption, columns, rows)


def _column(result: Result) -> Column:
    return Column(result.measure.title, result.measure.unit, numeric=True)


def _decimals(result: Result) -> int:
    """As many as the margin shows, for what is decided; else four digits."""
    shown = common_decimals(result.means)
    return min(max(shown, 1), result.measure.digits) if result.measure.margin > 0 else shown
