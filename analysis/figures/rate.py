"""What each loss makes of its nats: a metric against the KL."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.points import axis_title, finite, identities, shown, words
from analysis.figures.style import blank, escape, figure, label, looks


def rate_distortion(points: pd.DataFrame, bands: pd.DataFrame, metric: str = "psnr") -> go.Figure:
    """Trials by their KL and a metric, and a line through each group's with its interval.

    Read from it, at one KL, which loss reconstructs better for the same price: lines on top of
    each other are one loss at other values of `beta`, whatever their trials seem to say.

    Args:
        points: of `analysis.rate_distortion`, with the columns group, trial, seed, beta, kl
            (nats per image) and value.
        bands: of the same, with the columns group, kl, mean, low and high.
        metric: of the values.

    Raises:
        ValueError: there is no such metric.
    """
    made = figure(xaxis_title="KL (nats per image)", yaxis_title=axis_title(metric))
    points = points[np.isfinite(finite(points["kl"])) & np.isfinite(finite(points["value"]))]
    if points.empty:
        return blank(f"No completed trial has both {words(metric)} and a KL.")
    for name, look in looks(list(dict.fromkeys(points["group"]))).items():
        band = bands[bands["group"] == name]
        certain = band.dropna(subset=["low", "high"])
        if len(certain):
            made.add_scatter(
                x=np.concatenate([certain["kl"], certain["kl"][::-1]]),
                y=np.concatenate([certain["high"], certain["low"][::-1]]),
                fill="toself",
                fillcolor=look.faint(0.15),
                mode="lines",
                line_width=0,
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        if len(band):
            made.add_scatter(
                x=band["kl"],
                y=band["mean"],
                mode="lines",
                line={"color": look.colour, "dash": look.dash, "width": 2},
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        rows = points[points["group"] == name]
        made.add_scatter(
            x=rows["kl"],
            y=rows["value"],
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.85},
            customdata=identities(rows),
            hovertext=[
                escape(
                    f"{row.trial}: {name}, beta {shown(row.beta)}, {shown(row.value)} at "
                    f"{row.kl:.3g} nats"
                )
                for row in rows.itertuples()
            ],
            hoverinfo="text",
            legendgroup=name,
            name=label(name),
        )
    return made
