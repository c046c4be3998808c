"""What each loss makes of its nats: a metric against the KL."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.points import add_curve, add_dots, axis_title, finite, shown, words
from analysis.figures.style import blank, escape, figure, looks


def rate_distortion(points: pd.DataFrame, bands: pd.DataFrame, metric: str = "psnr") -> go.Figure:
    """Trials by their KL and a metric, and a line through each group's with its interval.

    Read from it, at one KL, which loss reconstructs better for the same price: lines on top of
    each other are one loss at other values of `beta`, whatever their trials seem to say.

    Args:
        points: of `analysis.rate_distortion`, with the columns group, trial, seed, beta, kl
            (nats per image) and value.
        bands: of the same, with the columns group, kl, mean, low and high.
        metric: of the values.
    """
    points = points.assign(kl=finite(points["kl"]), value=finite(points["value"]))
    points = points.dropna(subset=["kl", "value"])
    if points.empty:
        return blank(f"No completed trial has both {words(metric)} and a KL.")
    made = figure(xaxis_title="KL (nats per image)", yaxis_title=axis_title(metric))
    for name, look in looks(list(points["group"].unique())).items():
        band = bands[bands["group"] == name]
        if len(band):
            kl, low, mean, high = (band[c].to_numpy() for c in ("kl", "low", "mean", "high"))
            line = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
            add_curve(made, kl, low, mean, high, look, name, **line)
        rows = points[points["group"] == name]
        hover = [
            escape(f"{trial}: {name}, beta {shown(beta)}, {shown(value)} at {kl:.3g} nats")
            for trial, beta, value, kl in zip(
                rows["trial"], rows["beta"], rows["value"], rows["kl"], strict=True
            )
        ]
        add_dots(made, rows, rows["kl"], rows["value"], look, hover, name)
    return made
