"""The tables of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import labels
from analysis.report.content import Detail
from analysis.report.tables import Cell, Column, Row, Table, common_decimals, is_finite, number

if TYPE_CHECKING:
    from analysis.comparison import Comparison

_SPLITS = {"test": "test", "val": "validation"}


def estimates_table(comparison: Comparison, by: Sequence[str]) -> Table | None:
    """What each group reached on each metric, best mean rank first; None if there is nothing.

    Args:
        comparison: to show.
        by: the columns that make its groups.
    """
    estimates = comparison.estimates
    if estimates.empty:
        return None
    metrics = list(dict.fromkeys(estimates["metric"]))
    values = {(row["group"], row["metric"]): row for _, row in estimates.iterrows()}
    leading = {metric: leaders(comparison, metric) for metric in metrics}
    decimals = {metric: _decimals(estimates, metric) for metric in metrics}
    parameters = comparison.chosen.set_index("group")["parameters"]
    rows = []
    for _, rank in comparison.ranks.iterrows():
        group = rank["group"]
        cells = [Cell(group, group, _others(parameters[group], group))]
        for metric in metrics:
            mark = leading[metric].get(group, "")
            cells.append(_estimate(values.get((group, metric)), decimals[metric], mark))
        rows.append(Row([*cells, number(rank["mean"], 1)]))
    title = ", ".join(name.removesuffix(".name").removeprefix("loss.") for name in by)
    columns = [Column(title), *map(_column, metrics), Column("mean rank", numeric=True)]
    return Table(_caption(comparison, leading), columns, rows)


def leaders(comparison: Comparison, metric: str) -> dict[str, str]:
    """The groups that are «best» on a metric or, where that is undecided, perhaps («best?»).

    None where all of them may be.
    """
    known = comparison.contenders[comparison.contenders["metric"] == metric]
    measured = comparison.estimates[comparison.estimates["metric"] == metric]
    worse = set(known.loc[~known["contends"].astype(bool), "group"])
    may_be = [group for group in measured.dropna(subset=["mean"])["group"] if group not in worse]
    if not worse:
        return {}
    return {may_be[0]: "best"} if len(may_be) == 1 else dict.fromkeys(may_be, "best?")


def details(comparison: Comparison) -> list[Detail]:
    """What stands behind the table of estimates."""
    found = [Detail("chosen", "What was chosen for each", _chosen_table(comparison))]
    if len(comparison.pairs):
        found.append(Detail("pairs", "Every pair, tested", _pairs_table(comparison)))
    if comparison.estimates["iqm_low"].notna().any():
        found.append(Detail("robust", "Robust means and bootstrap", _robust_table(comparison)))
    return found


def _caption(comparison: Comparison, leading: Mapping[str, Mapping[str, str]]) -> str:
    marks = {mark for groups in leading.values() for mark in groups.values()}
    sentences = [f"On the {_SPLITS.get(comparison.split, comparison.split)} split."]
    if comparison.estimates["low"].notna().any():
        level = f"{100 * (1 - comparison.alpha):g}%"
        sentences.append(f"Below each mean is its {level} interval.")
    if not marks and len(comparison.chosen) > 1:
        sentences.append("No group is surely best on any metric.")
    if "best" in marks:
        sentences.append("best: every other is surely worse.")
    if "best?" in marks:
        sentences.append("best?: one of those is best, and the trials do not tell which.")
    return " ".join(sentences)


def _chosen_table(comparison: Comparison) -> Table:
    columns = [
        Column("group"),
        Column("parameters"),
        Column("seeds", numeric=True),
        Column("trials"),
    ]
    columns += [Column("best of", "configurations", numeric=True)]
    rows = []
    for _, one in comparison.chosen.iterrows():
        fresh = "fresh seeds" if one["confirmed"] else ""
        seeds = Cell(str(len(one["trials"])), float(len(one["trials"])), fresh)
        parameters = _others(one["parameters"], one["group"])
        texts = [Cell(one["group"], one["group"]), Cell(parameters, parameters)]
        trials = ", ".join(one["trials"])
        rows.append(Row([*texts, seeds, Cell(trials, trials), number(one["tried"], 0)]))
    return Table("Chosen on the validation split, by the objective of the sweep.", columns, rows)


def _pairs_table(comparison: Comparison) -> Table:
    columns = [
        Column("metric"), Column("one"), Column("other"), Column("difference", numeric=True),
        Column("p", "Holm", numeric=True), Column("chance to be better", numeric=True),
        Column("the one is"),
    ]  # fmt: skip
    decimals = {m: _decimals(comparison.estimates, m) + 1 for m in set(comparison.pairs["metric"])}
    rows = []
    for _, pair in comparison.pairs.iterrows():
        metric = pair["metric"]
        chance = number(pair["probability_of_improvement"], 2)
        rows.append(
            Row(
                [
                    Cell(labels.title(metric), labels.title(metric)),
                    Cell(pair["a"], pair["a"]),
                    Cell(pair["b"], pair["b"]),
                    _ranged(pair["difference"], pair["low"], pair["high"], decimals[metric]),
                    number(pair["p_holm"], 4),
                    _noted(chance, pair["probability_low"], pair["probability_high"], 2),
                    Cell(pair["verdict"], pair["verdict"]),
                ]
            )
        )
    caption = (
        "Differences of means with their intervals, one less the other. The chance is that of an "
        "image and a seed of the one to be better than the same image with a seed of the other "
        "(Agarwal et al. 2021)."
    )
    return Table(caption, columns, rows)


def _robust_table(comparison: Comparison) -> Table:
    columns = [
        Column("group"), Column("metric"), Column("mean", "bootstrap", numeric=True),
        Column("interquartile mean", "bootstrap", numeric=True), Column("seeds", numeric=True),
        Column("images", numeric=True),
    ]  # fmt: skip
    rows = []
    for _, one in comparison.estimates.iterrows():
        decimals = _decimals(comparison.estimates, one["metric"])
        title = labels.title(one["metric"])
        rows.append(
            Row(
                [
                    Cell(one["group"], one["group"]),
                    Cell(title, title),
                    _ranged(one["mean"], one["boot_low"], one["boot_high"], decimals),
                    _ranged(one["iqm"], one["iqm_low"], one["iqm_high"], decimals),
                    number(one["seeds"], 0),
                    number(one["images"] or None, 0),
                ]
            )
        )
    caption = "With few seeds these intervals are too narrow; those above are the ones to trust."
    return Table(caption, columns, rows)


def _estimate(row: pd.Series | None, decimals: int, mark: str) -> Cell:
    if row is None:
        return number(None)
    cell = _ranged(row["mean"], row["low"], row["high"], decimals)
    return Cell(cell.text, cell.sort, cell.note, mark)


def _ranged(value: Any, low: Any, high: Any, decimals: int) -> Cell:
    return _noted(number(value, decimals), low, high, decimals)


def _noted(cell: Cell, low: Any, high: Any, decimals: int) -> Cell:
    """The cell with an interval below, if there is one."""
    if not (is_finite(low) and is_finite(high)):
        return cell
    interval = f"{number(low, decimals).text} to {number(high, decimals).text}"
    return Cell(cell.text, cell.sort, interval)


def _column(metric: str) -> Column:
    return Column(labels.title(metric), labels.unit(metric), numeric=True)


def _decimals(estimates: pd.DataFrame, metric: str) -> int:
    """As many as its intervals tell apart: two digits of their half; else four of the means."""
    rows = estimates[estimates["metric"] == metric]
    half = ((rows["high"] - rows["low"]) / 2).median()
    digits = common_decimals(rows["mean"])
    return min(digits, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else digits


def _others(parameters: Mapping[str, Any], group: str) -> str:
    """The parameters that the group's label does not tell."""
    said = {*group.split(", ")}
    others = {k: v for k, v in parameters.items() if labels.parameters({k: v}) not in said}
    return labels.parameters(others)
