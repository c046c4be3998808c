"""How the trials went: learning curves, and where the pruner stopped them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.points import (
    add_curve,
    add_dots,
    axis_title,
    column_of,
    finite,
    grouped,
    hover_texts,
    words,
)
from analysis.figures.style import BLUE, GREY, ORANGE, Look, blank, figure, label, looks
from analysis.runs import Runs

_MANY = 25  # points of a curve that are too many for markers
_ENDS = {
    "completed": Look(BLUE, "solid", "circle"),
    "pruned": Look(ORANGE, "dash", "x"),
    "failed, interrupted or running": Look(GREY, "dot", "triangle-down-open"),
}
_OTHER = list(_ENDS)[-1]


def learning_curves(
    runs: Runs, metric: str = "psnr", *, by: Sequence[str] = ("loss.name",)
) -> go.Figure:
    """The median of each group's completed trials after each epoch, and a band to the quartiles.

    Read from it which loss learns faster, which still improves at the end (train longer), and how
    much the trials of one loss differ. A trial that stopped early keeps its last value. Trials that
    did not complete are left out, unless none did.
    """
    history = _history(runs, metric)
    trials = runs.trials[runs.trials["status"] == "completed"]
    groups = grouped(runs.trials if trials.empty else trials, by)
    if history.empty or not groups:
        return blank(f"No trial has a history of {words(metric)}.")
    curves = history.pivot_table(index="trial", columns="epoch", values="value").ffill(axis=1)
    made = figure(xaxis_title="epoch", yaxis_title=axis_title(metric))
    for name, look in looks(list(groups)).items():
        own = curves[curves.index.isin(groups[name]["trial"])].dropna(axis=1, how="all")
        if own.empty:
            continue
        epochs = own.columns.to_numpy() + 1
        low, middle, high = own.quantile([0.25, 0.5, 0.75]).to_numpy()
        add_curve(
            *(made, epochs, low, middle, high, look, name),
            customdata=np.stack([low, high], axis=1),
            name=label(name),
            mode="lines" if len(epochs) > _MANY else "lines+markers",
            marker={"symbol": look.symbol, "size": 7},
            hovertemplate=(
                f"{label(name)}, epoch %{{x}}<br>median %{{y:.4g}} of {len(own)} "
                f"trial{'' if len(own) == 1 else 's'}<br>"
                "quartiles %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>"
            ),
        )
    return made


def pruning(runs: Runs, metric: str | None = None) -> go.Figure:
    """Every trial's validations, and where each ended: completed, pruned, or otherwise.

    Read from it whether the pruner was right: pruned curves should lie below those that went on,
    and lines that cross after the crosses mean that it stops too early.
    Without a metric it is the first objective.
    """
    metric = metric or (runs.objectives[0] if runs.objectives else "psnr")
    history = _history(runs, metric).sort_values(["trial", "epoch"])
    if history.empty:
        return blank(f"No trial has a history of {words(metric)}.")
    ends = history.groupby("trial").last()
    trials = runs.trials[runs.trials["trial"].isin(ends.index)]
    kinds = trials["status"].where(trials["status"].isin(_ENDS), _OTHER)
    made = figure(xaxis_title="epoch", yaxis_title=axis_title(metric))
    for kind, look in _ENDS.items():
        rows = trials[kinds == kind]
        if rows.empty:
            continue
        name = f"{kind} ({len(rows)})"
        last = ends.loc[rows["trial"]]
        gaps = last.reset_index().assign(value=np.nan)  # between the trials of one line
        line = pd.concat([history[history["trial"].isin(rows["trial"])], gaps])
        line = line.sort_values(["trial", "epoch"], kind="stable")
        made.add_scatter(
            x=line["epoch"] + 1,
            y=line["value"],
            mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 1},
            opacity=0.5,
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
        hover = [
            f"{text}<br>{words(metric)} {value:.4g} at its last validation, epoch {epoch + 1}"
            for text, value, epoch in zip(
                hover_texts(runs, rows, []), last["value"], last["epoch"], strict=True
            )
        ]
        add_dots(made, rows, last["epoch"] + 1, last["value"], look, hover, name)
    return made


def _history(runs: Runs, metric: str) -> pd.DataFrame:
    """The validations that have a finite value of a metric, as `value`."""
    column = column_of(runs.history, metric)
    if column is None:
        return pd.DataFrame(columns=["trial", "epoch", "value"])
    return runs.history.assign(value=finite(runs.history[column])).dropna(subset=["value"])
