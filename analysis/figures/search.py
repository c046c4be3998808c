"""What the search says about its parameters, and what of it no other trial beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.points import (
    add_dots,
    axis_title,
    column_of,
    finite,
    grouped,
    hover_texts,
    is_number,
    maximized,
    parameters,
    shown,
    words,
)
from analysis.figures.style import COLOURS, INK, blank, figure, label, looks
from analysis.ranking import parameter_importance
from analysis.runs import Runs

_CHOICES = 8  # as many different values are shown as choices, each with its own tick
_PATTERNS = ("", "/", "x", ".")
_FAR = 8  # times the least: ratios are then what counts
_ACROSS = 3  # panels in a row


def importance(runs: Runs, metrics: Sequence[str] = ()) -> go.Figure:
    """How much each searched parameter matters for each metric (PED-ANOVA, see `importance`).

    Read from it where another search should spend its trials: a parameter near 0 can stay as it
    is. It is measured within the ranges that were searched, and says nothing beyond them.
    Without `metrics` it is told for the objectives.
    """
    table = parameter_importance(runs, metrics)
    if table.empty:
        return blank("Importances need 4 completed trials and 2 parameters that vary.")
    made = figure(
        height=110 + 26 * len(table) * (1 + len(table.columns)) // 2,
        xaxis={"title": "share of what is explained", "tickformat": ".0%"},
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False},
        barmode="group",
        showlegend=len(table.columns) > 1,
        legend_traceorder="normal",
    )
    for i, metric in enumerate(table.columns):
        made.add_bar(
            x=table[metric],
            y=[label(name) for name in table.index],
            orientation="h",
            name=words(metric),
            marker={"color": COLOURS[i % len(COLOURS)], "pattern_shape": _PATTERNS[i % 4]},
            hovertemplate=f"%{{y}}<br>%{{x:.0%}} of {words(metric)}<extra></extra>",
        )
    return made


def slices(runs: Runs, metric: str = "psnr", *, by: Sequence[str] = ("loss.name",)) -> go.Figure:
    """The metric of every completed trial against what is compared and each searched parameter.

    Read from it where the good values lie, and whether they lie at the edge of the range: then the
    range should be wider.
    """
    from plotly.subplots import make_subplots

    table = _completed(runs, [metric])
    if table.empty:
        return blank(f"No completed trial has {words(metric)}.")
    groups = grouped(table, by)
    names = [n for n in dict.fromkeys([*by, *parameters(runs)]) if table[n].notna().any()]
    across = min(_ACROSS, len(names))
    down = -(-len(names) // across)
    made = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.28 / down,
        figure=figure(height=60 + 300 * down),
    )
    column = str(column_of(table, metric))
    for i, name in enumerate(names):
        place = {"row": i // across + 1, "col": i % across + 1}
        axis, position = _axis(table[name])
        made.update_xaxes(title_text=label(name), **axis, **place)
        for group, look in looks(list(groups)).items():
            rows = groups[group][groups[group][name].notna()]
            x, y = position(rows[name]), finite(rows[column])
            hover = hover_texts(runs, rows, [column])
            add_dots(made, rows, x, y, look, hover, group, showlegend=i == 0, **place)
    return made.update_yaxes(title_text=axis_title(metric), col=1)


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
    """
    table = _completed(runs, metrics)
    if table.empty:
        return blank(f"No completed trial has both {words(metrics[0])} and {words(metrics[1])}.")
    columns = [str(column_of(table, metric)) for metric in metrics]
    points = np.stack([finite(table[column]) for column in columns], axis=1)
    best = points[on_front(points, [maximized(metric) for metric in metrics])]
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
    groups = grouped(table, by)
    for name, look in looks(list(groups)).items():
        rows = groups[name]
        x, y = (finite(rows[column]) for column in columns)
        add_dots(made, rows, x, y, look, hover_texts(runs, rows, columns), name)
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


def _completed(runs: Runs, metrics: Sequence[str]) -> pd.DataFrame:
    """The completed trials that have a finite value of each metric."""
    table = runs.trials[runs.trials["status"] == "completed"]
    for metric in metrics:
        column = column_of(runs.trials, metric)
        table = table.iloc[:0] if column is None else table[np.isfinite(finite(table[column]))]
    return table


def _axis(values: pd.Series) -> tuple[dict[str, Any], Any]:
    """The axis for a parameter, and where on it values lie.

    Values have a tick each if they are few enough, or not all numbers.
    """
    present = values.dropna()
    choices = sorted(set(present) if is_number(values) else {shown(value) for value in present})
    if is_number(values) and len(choices) > _CHOICES:
        is_logarithmic = choices[0] > 0 and choices[-1] / choices[0] > _FAR
        return ({"type": "log", "nticks": 6} if is_logarithmic else {}), finite
    where = {shown(choice): i for i, choice in enumerate(choices)}
    axis = {
        "tickvals": list(where.values()),
        "ticktext": [label(text) for text in where],
        "range": [-0.5, len(where) - 0.5],
    }
    return axis, lambda column: [where[shown(value)] for value in column]
