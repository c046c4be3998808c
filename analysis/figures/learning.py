"""How the trials went: learning curves, and where the pruner stopped them."""

from __future__ import annotations

from collections.abc import Sequence

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
    words,
)
from analysis.figures.style import BLUE, GREY, ORANGE, blank, figure, label, looks
from analysis.runs import Runs

_MANY = 25  # points of a curve that are too many for markers

# Status: colour, dash, the marker of a trial's last validation, opacity.
_ENDS = {
    "completed": (BLUE, "solid", "circle", 0.8),
    "pruned": (ORANGE, "dash", "x", 0.9),
    "other": (GREY, "dot", "triangle-down-open", 0.9),
}


def learning_curves(
    runs: Runs, metric: str = "psnr", *, by: Sequence[str] = ("loss.name",)
) -> go.Figure:
    """The median of each group's completed trials after each epoch, and a band to the quartiles.

    Read from it which loss learns faster, which still improves at the end (train longer), and how
    much the trials of one loss differ. A trial that stopped early keeps its last value. Trials that
    did not complete are left out, unless none did.

    Args:
        runs: with a history.
        metric: of the validation split.
        by: columns that make the groups.

    Raises:
        ValueError: there is no such metric, or no such column.
    """
    column = column_of(runs.history, metric)
    trials = runs.trials[runs.trials["status"] == "completed"]
    trials = runs.trials if trials.empty else trials
    if column is None or runs.history.empty or trials.empty:
        return blank(f"No trial has a history of {words(metric)} yet.")
    wide = runs.history.assign(value=finite(runs.history[column])).pivot_table(
        index="trial", columns="epoch", values="value", dropna=False
    )
    wide = wide.ffill(axis=1)
    groups = grouped(trials, by)
    made = figure(xaxis_title="epoch", yaxis_title=axis_title(metric))
    for name, look in looks(list(groups)).items():
        curves = wide.reindex(groups[name]["trial"]).to_numpy()
        seen = ~np.isnan(curves).all(axis=0) if curves.size else np.zeros(0, dtype=bool)
        if not seen.any():
            continue
        epochs = wide.columns.to_numpy()[seen] + 1
        low, middle, high = np.nanquantile(curves[:, seen], [0.25, 0.5, 0.75], axis=0)
        count = int((~np.isnan(curves).all(axis=1)).sum())
        if count > 1:
            made.add_scatter(
                x=np.concatenate([epochs, epochs[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                fillcolor=look.faint(0.15),
                mode="lines",
                line_width=0,
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        made.add_scatter(
            x=epochs,
            y=middle,
            customdata=np.stack([low, high], axis=1),
            name=label(name),
            legendgroup=name,
            mode="lines" if len(epochs) > _MANY else "lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"symbol": look.symbol, "size": 7},
            hovertemplate=(
                f"{label(name)}, epoch %{{x}}<br>median %{{y:.4g}} of {count} "
                f"trial{'s' if count > 1 else ''}<br>"
                "quartiles %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>"
            ),
        )
    return made if made.data else blank(f"No trial has a finite {words(metric)}.")


def pruning(runs: Runs, metric: str | None = None) -> go.Figure:
    """Every trial's validations, and where each ended: completed, pruned, or otherwise.

    Read from it whether the pruner was right: pruned curves should lie below those that went on,
    and lines that cross after the crosses mean that it stops too early.

    Args:
        runs: with a history.
        metric: of the validation split; None for the first objective.

    Raises:
        ValueError: there is no such metric.
    """
    metric = metric or (runs.objectives[0] if runs.objectives else "psnr")
    column = column_of(runs.history, metric)
    if column is None or runs.history.empty or runs.trials.empty:
        return blank(f"No trial has a history of {words(metric)} yet.")
    history = runs.history.assign(value=finite(runs.history[column])).dropna(subset=["value"])
    curves = {str(trial): rows for trial, rows in history.groupby("trial", sort=False)}
    trials = runs.trials[runs.trials["trial"].isin(curves.keys())]
    kinds = trials["status"].where(trials["status"].isin(["completed", "pruned"]), "other")
    made = figure(xaxis_title="epoch", yaxis_title=axis_title(metric))
    for kind in _ENDS:
        rows = trials[kinds == kind]
        if not rows.empty:
            made.add_traces(_ended(runs, rows, curves, kind, metric))
    return made if made.data else blank(f"No trial has a finite {words(metric)}.")


def _ended(
    runs: Runs, rows: pd.DataFrame, curves: dict[str, pd.DataFrame], kind: str, metric: str
) -> list[go.Scatter]:
    """The curves of the trials that ended in one way, as one line with gaps, and their ends."""
    colour, dash, symbol, opacity = _ENDS[kind]
    ordered = [curves[trial].sort_values("epoch") for trial in rows["trial"]]
    gap = [np.array([np.nan])]
    x = np.concatenate([part for c in ordered for part in (c["epoch"].to_numpy() + 1.0, *gap)])
    y = np.concatenate([part for c in ordered for part in (c["value"].to_numpy(), *gap)])
    name = "failed, interrupted or running" if kind == "other" else kind
    return [
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 1},
            opacity=0.6 * opacity,
            legendgroup=kind,
            showlegend=False,
            hoverinfo="skip",
        ),
        go.Scatter(
            x=[c["epoch"].iloc[-1] + 1 for c in ordered],
            y=[c["value"].iloc[-1] for c in ordered],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            opacity=opacity,
            legendgroup=kind,
            name=f"{name} ({len(rows)})",
            customdata=identities(rows),
            hovertext=[
                f"{text}<br>{words(metric)} {c['value'].iloc[-1]:.4g} at its last validation, "
                f"epoch {c['epoch'].iloc[-1] + 1}"
                for text, c in zip(hover_texts(runs, rows, []), ordered, strict=True)
            ],
            hoverinfo="text",
        ),
    ]
