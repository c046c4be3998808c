"""What the search says about its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.points import (
    axis_title,
    column_of,
    finite,
    grouped,
    hover_texts,
    identities,
    is_logarithmic,
    is_number,
    log_ticks,
    parameters,
    shown,
    words,
)
from analysis.figures.style import COLOURS, blank, figure, label, looks
from analysis.ranking import parameter_importance
from analysis.runs import Runs

_CHOICES = 8  # as many different values are shown as choices, each with its own tick
_PATTERNS = ("", "/", "x", ".")
_ACROSS = 3  # panels in a row


def importance(runs: Runs, metrics: Sequence[str] = ()) -> go.Figure:
    """How much each searched parameter matters for each metric (PED-ANOVA, see `importance`).

    Read from it where another search should spend its trials: a parameter near 0 can stay as it
    is. It is measured within the ranges that were searched, and says nothing beyond them.

    Args:
        runs: of a search over at least two parameters.
        metrics: none for the objectives.

    Raises:
        ValueError: there is no such metric.
    """
    table = parameter_importance(runs, metrics)
    if table.empty:
        return blank("Importances need 4 completed trials and 2 parameters that vary.")
    made = figure(
        height=110 + 26 * len(table) * (1 + len(table.columns)) // 2,
        xaxis={"title": "share of what the parameters explain", "tickformat": ".0%"},
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


def slices(
    runs: Runs,
    metric: str = "psnr",
    params: Sequence[str] | None = None,
    *,
    by: Sequence[str] = ("loss.name",),
) -> go.Figure:
    """The metric of every completed trial against each searched parameter, one panel each.

    Read from it where the good values lie, and whether they lie at the edge of the range: then the
    range should be wider.

    Args:
        runs: whose completed trials are shown.
        metric: on the vertical axis of all panels.
        params: columns, one a panel; None for what was searched, but for what the colours show.
        by: columns that make the groups, told apart by colour and marker.

    Raises:
        ValueError: there is no such metric, or no such column to group by.
    """
    from plotly.subplots import make_subplots

    column = column_of(runs.trials, metric)
    table = _completed(runs, column)
    names = list(params or [n for n in parameters(runs) if n not in by])
    names = [n for n in names if n in table and table[n].notna().any()]
    if table.empty or not names:
        return blank(f"No completed trial has {words(metric)} and a parameter that varies.")
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
    groups = grouped(table, by)
    for i, name in enumerate(names):
        place = {"row": i // across + 1, "col": i % across + 1}
        axis, position = _axis(table[name])
        made.update_xaxes(title_text=label(name), **axis, **place)
        for group, look in looks(list(groups)).items():
            rows = groups[group][groups[group][name].notna()]
            made.add_scatter(
                x=position(rows[name]),
                y=finite(rows[str(column)]),
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.7},
                name=label(group),
                legendgroup=group,
                showlegend=i == 0,
                customdata=identities(rows),
                hovertext=hover_texts(runs, rows, [str(column)]),
                hoverinfo="text",
                **place,
            )
    made.update_yaxes(title_text=axis_title(metric), col=1)
    return made


def _completed(runs: Runs, column: str | None) -> pd.DataFrame:
    table = runs.trials[runs.trials["status"] == "completed"]
    if column is None:
        return table.iloc[:0]
    return table[~np.isnan(finite(table[column]))]


def _choices(values: pd.Series) -> list[Any] | None:
    """The values in order, if they are few enough for a tick each or not all numbers."""
    present = values.dropna()
    if is_number(values):
        taken = sorted(set(present))
        return taken if len(taken) <= _CHOICES else None
    return sorted({shown(value) for value in present})


def _axis(values: pd.Series) -> tuple[dict[str, Any], Any]:
    """The axis for a parameter, and where on it values lie."""
    choices = _choices(values)
    if choices is None:
        if not is_logarithmic(values):
            return {}, finite
        ticks = log_ticks(*_ends(values))
        return {"type": "log", "tickvals": list(ticks), "ticktext": list(ticks.values())}, finite
    where = {shown(choice): i for i, choice in enumerate(choices)}
    axis = {
        "tickvals": list(where.values()),
        "ticktext": [label(text) for text in where],
        "range": [-0.5, len(where) - 0.5],
    }
    return axis, lambda column: [where[shown(value)] for value in column]


def _ends(values: pd.Series) -> tuple[float, float]:
    floats = finite(values)
    return float(np.nanmin(floats)), float(np.nanmax(floats))
