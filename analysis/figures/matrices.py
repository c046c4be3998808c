"""Tables as colours with their numbers: which unit follows which factor, who wins only at home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.points import shown, words
from analysis.figures.style import blank, escape, figure, label

# Solid, so that numbers in dark or white ink can be read on them on any page.
_AMOUNTS = ((0, "rgb(233,238,241)"), (1, "rgb(0,80,127)"))
_ROW, _COLUMN = 30, 66  # pixels


def latent_factors(information: pd.DataFrame, *, factors: int = 12) -> go.Figure:
    """How much of each factor each latent unit knows, in percent of the factor's entropy.

    Shown are the factors that any unit knows best, and for each the unit that knows most. Read
    from it which unit follows what: a dark cell alone in its row and column is a unit with one
    meaning; a column of pale cells is a factor that the units share, or do not know.

    Args:
        information: of `analysis.trained.latents.information`, units by factors.
        factors: how many, at most.
    """
    best = information.max().sort_values(ascending=False, kind="stable")
    names = list(best[best > 0].index[:factors])
    if not names:
        return blank("No latent unit knows anything about any factor.")
    units = list(dict.fromkeys(information[name].idxmax() for name in names))
    table = information.loc[units, names]
    share = table.to_numpy()
    return matrix(
        share / max(share.max(), 1e-12),
        [[f"{100 * value:.0f}" for value in row] for row in share],
        [
            [
                escape(f"unit {unit} knows {100 * table.loc[unit, name]:.1f}% of {name}")
                for name in names
            ]
            for unit in units
        ],
        rows=[f"unit {unit}" for unit in units],
        columns=[name.replace("_", " ") for name in names],
    )


def home_advantage(values: pd.DataFrame, ranks: pd.DataFrame, marks: pd.DataFrame) -> go.Figure:
    """Models (rows) scored by every loss and every neutral metric (columns), darker for better.

    A star marks a model that is first only where it was trained to be: on its own loss and its
    kin. Read from it whose win counts: a row that is dark everywhere is better by any measure, a
    star alone is home advantage.

    Args:
        values: of `analysis.home`.
        ranks: from 1 for the best of each column, of the same shape.
        marks: whether to mark a cell, of the same shape.

    Raises:
        ValueError: the tables differ in shape.
    """
    if not values.shape == ranks.shape == marks.shape:
        raise ValueError(
            "values, ranks and marks must have one shape, "
            f"but got {values.shape}, {ranks.shape} and {marks.shape}"
        )
    if values.empty:
        return blank("No model was scored.")
    last = max(len(values) - 1, 1)
    starred = marks.to_numpy(dtype=bool)
    texts = [[shown(float(f"{value:.3g}")) for value in row] for row in values.to_numpy(float)]
    columns = [words(str(name)) for name in values.columns]
    return matrix(
        1 - (ranks.to_numpy(dtype=float) - 1) / last,
        [
            [f"{text} ★" if star else text for text, star in zip(row, stars, strict=True)]
            for row, stars in zip(texts, starred, strict=True)
        ],
        [
            [
                escape(
                    f"{model} on {column}: {text}, place {rank:g} of {len(values)}"
                    + (", first only at home" if star else "")
                )
                for column, text, rank, star in zip(columns, row, places, stars, strict=True)
            ]
            for model, row, places, stars in zip(
                values.index, texts, ranks.to_numpy(), starred, strict=True
            )
        ],
        rows=[str(model) for model in values.index],
        columns=columns,
    )


def matrix(
    strength: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    hover: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    scale: Sequence[Sequence[Any]] = _AMOUNTS,
    white: tuple[float, float] = (-1.0, 0.5),
) -> go.Figure:
    """Cells with texts in them, coloured by numbers in [0, 1]; empty where there is no number.

    A page that is too narrow for the texts scrolls (`layout.meta`).

    Args:
        strength: (rows, columns).
        texts: in the cells.
        hover: that appear on pointing at them, escaped.
        rows: names, from top to bottom.
        columns: names, from left to right.
        scale: the colours, from pale for 0 to deep for 1; solid, for any page.
        white: ink is white at or below the one number, and above the other.
    """
    down, across = strength.shape
    made = figure(
        height=130 + _ROW * down,
        margin={"l": 8, "r": 100, "t": 8, "b": 8},
        xaxis={
            "tickvals": list(range(across)),
            "ticktext": [label(name) for name in columns],
            "tickangle": -40,
            "side": "top",
        },
        yaxis={
            "tickvals": list(range(down)),
            "ticktext": [label(name) for name in rows],
            "autorange": "reversed",
        },
        showlegend=False,
        meta={"least_width": 200 + _COLUMN * across},
    )
    quiet = {"showgrid": False, "showline": False, "ticks": ""}
    made.update_xaxes(**quiet)
    made.update_yaxes(**quiet)
    made.add_heatmap(
        z=strength,
        zmin=0,
        zmax=1,
        colorscale=[list(stop) for stop in scale],
        showscale=False,
        xgap=2,
        ygap=2,
        hovertext=[list(row) for row in hover],
        hoverinfo="text",
    )
    below, above = white
    places = [(i, j) for i in range(down) for j in range(across)]
    made.add_scatter(
        x=[j for _, j in places],
        y=[i for i, _ in places],
        mode="text",
        text=[escape(texts[i][j]) for i, j in places],
        textfont={
            "size": 12,
            "color": [
                "white" if strength[i, j] <= below or strength[i, j] > above else "#222222"
                for i, j in places
            ],
        },
        hoverinfo="skip",
    )
    return made
