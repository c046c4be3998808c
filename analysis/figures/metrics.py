"""What the trials reached: one metric by loss, and two metrics against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.points import (
    axis_title,
    base_name,
    column_of,
    finite,
    grouped,
    hover_texts,
    identities,
    maximized,
    words,
)
from analysis.figures.style import INK, blank, figure, label, looks
from analysis.runs import Runs

_ROW = 44  # pixels a group


def metric_by_loss(
    runs: Runs,
    metric: str = "psnr",
    *,
    by: Sequence[str] = ("loss.name",),
    estimates: pd.DataFrame | None = None,
) -> go.Figure:
    """A dot for each completed trial, by group, the best group on top; above them an interval.

    With `estimates` the interval is that of the comparison: the mean of the group's chosen
    configuration, with its confidence interval over seeds and images. Intervals far apart differ;
    whether overlapping ones do, only the paired test says. Without, it is the median of the dots
    and their quartiles, which describe a search and are no test.

    Args:
        runs: whose completed trials are shown.
        metric: «psnr» for the validation split, «test/psnr» for the other.
        by: columns that make the groups.
        estimates: of `analysis.compare`, with the columns group, metric, mean, low and high.

    Raises:
        ValueError: there is no such metric, or no such column.
    """
    column = column_of(runs.trials, metric)
    groups = grouped(runs.trials[runs.trials["status"] == "completed"], by)
    if column is not None:
        groups = {name: rows[~np.isnan(finite(rows[column]))] for name, rows in groups.items()}
    groups = {name: rows for name, rows in groups.items() if column is not None and len(rows)}
    intervals = _intervals(groups, column or "", estimates, metric)
    if not intervals:
        return blank(f"No completed trial has {words(metric)}.")
    sign = 1 if maximized(metric) else -1
    order = sorted(intervals, key=lambda name: sign * intervals[name][0])
    made = figure(
        height=96 + _ROW * len(order),
        xaxis_title=axis_title(metric),
        showlegend=False,
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [label(name) for name in order],
            "range": [-0.5, len(order) - 0.4],
            "showgrid": False,
        },
    )
    what = "median and quartiles of the trials" if estimates is None else "mean and interval"
    for name, look in looks(order).items():
        place = order.index(name)
        if name in groups:
            rows = groups[name]
            made.add_scatter(
                x=finite(rows[column]),
                y=place + _spread(len(rows)),
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.7},
                customdata=identities(rows),
                hovertext=hover_texts(runs, rows, [str(column)]),
                hoverinfo="text",
                name=label(name),
            )
        middle, low, high = intervals[name]
        made.add_scatter(
            x=[middle],
            y=[place + 0.28],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - middle],
                "arrayminus": [middle - low],
                "thickness": 2,
                "width": 5,
            },
            mode="markers",
            marker={"color": look.colour, "symbol": "line-ns", "size": 11, "line_width": 2.5}
            | {"line_color": look.colour},
            hovertext=f"{label(name)}: {middle:.4g}, {low:.4g} to {high:.4g}<br>{what}",
            hoverinfo="text",
            name=label(name),
        )
    return made


def pareto_front(
    runs: Runs,
    metrics: tuple[str, str] = ("psnr", "ms_ssim"),
    *,
    by: Sequence[str] = ("loss.name",),
) -> go.Figure:
    """Completed trials by two metrics, and a line through those that no other beats in both.

    Read from it what one metric costs in the other: a trial on the line can only be improved in
    one by giving up some of the other. Losses at different ends of the line are good at different
    things, and none of them is best.

    Args:
        runs: whose completed trials are shown.
        metrics: on the horizontal and the vertical axis.
        by: columns that make the groups.

    Raises:
        ValueError: there are not two metrics, there is no such metric, or no such column.
    """
    if len(metrics) != 2 or isinstance(metrics, str):
        raise ValueError(f"a front is drawn for two metrics, but got {metrics!r}")
    columns = [column_of(runs.trials, metric) for metric in metrics]
    table = runs.trials[runs.trials["status"] == "completed"]
    if table.empty or None in columns:
        return blank(f"No completed trial has both {words(metrics[0])} and {words(metrics[1])}.")
    x, y = [str(column) for column in columns]
    table = table[~np.isnan(finite(table[x])) & ~np.isnan(finite(table[y]))]
    groups = grouped(table, by)
    if not groups:
        return blank(f"No completed trial has both {words(metrics[0])} and {words(metrics[1])}.")
    points = np.stack([finite(table[x]), finite(table[y])], axis=1)
    best = points[on_front(points, [maximized(metrics[0]), maximized(metrics[1])])]
    made = figure(xaxis_title=axis_title(metrics[0]), yaxis_title=axis_title(metrics[1]))
    # What the front dominates lies on the worse side of both of its metrics.
    made.add_scatter(
        x=best[:, 0],
        y=best[:, 1],
        mode="lines+markers",
        marker={"symbol": "circle-open", "size": 16, "color": INK},
        line={"color": INK, "width": 1.5, "shape": "vh" if maximized(metrics[0]) else "hv"},
        name="not beaten in both",
        hoverinfo="skip",
    )
    for name, look in looks(list(groups)).items():
        rows = groups[name]
        made.add_scatter(
            x=finite(rows[x]),
            y=finite(rows[y]),
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 9, "opacity": 0.85},
            customdata=identities(rows),
            hovertext=hover_texts(runs, rows, [x, y]),
            hoverinfo="text",
            name=label(name),
        )
    return made


def on_front(points: NDArray[np.float64], maximize: Sequence[bool]) -> NDArray[np.intp]:
    """Indices of the points (N, 2) that no other dominates, by their first coordinate.

    Of equal points one is kept.
    """
    losses = np.where(np.asarray(maximize), -points, points)
    order = np.lexsort((losses[:, 1], losses[:, 0]))
    least = np.minimum.accumulate(losses[order, 1])
    first = np.concatenate([[True], losses[order, 1][1:] < least[:-1]])
    kept: NDArray[np.intp] = order[first]
    return kept[np.argsort(points[kept, 0])]


def _intervals(
    groups: dict[str, pd.DataFrame], column: str, estimates: pd.DataFrame | None, metric: str
) -> dict[str, tuple[float, float, float]]:
    """Middle, low and high of each group: of the comparison, or the quartiles of its trials."""
    if estimates is not None:
        rows = estimates[estimates["metric"] == base_name(metric)]
        # With one seed there is no interval: its ends fall together with the mean.
        return {
            str(row["group"]): (
                row["mean"],
                *(row["mean"] if np.isnan(row[end]) else row[end] for end in ("low", "high")),
            )
            for _, row in rows.iterrows()
            if np.isfinite(row["mean"])
        }
    found: dict[str, tuple[float, float, float]] = {}
    for name, rows in groups.items():
        low, middle, high = np.quantile(finite(rows[column]), [0.25, 0.5, 0.75])
        found[name] = (float(middle), float(low), float(high))
    return found


def _spread(count: int) -> NDArray[Any]:
    """Offsets that keep dots of one row apart: the same for the same number of dots."""
    return -0.12 + 0.3 * ((np.arange(count) * 0.618034) % 1 - 0.5)
