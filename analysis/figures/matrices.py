"""Tables as colours with their numbers: which unit follows which factor, who wins only at home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.points import shown, words
from analysis.figures.style import blank, escape, figure, label

# Solid, so that numbers can be read on them on any page.
_AMOUNTS = ((0, "rgb(233,238,241)"), (1, "rgb(0,80,127)"))
_ROW, _COLUMN = 30, 66  # pixels
_MOST_FACTORS = 12


def latent_factors(information: pd.DataFrame) -> go.Figure:
    """How much of each factor each latent unit knows, in percent of the factor's entropy.

    Shown are the 12 factors that any unit knows best, and for each the unit that knows most. Read
    from it which unit follows what: a dark cell alone in its row and column is a unit with one
    meaning; a column of pale cells is a factor that the units share, or do not know.

    Args:
        information: of `analysis.trained.latents.information`, units by factors.
    """
    best = information.max().sort_values(ascending=False, kind="stable")
    names = list(best[best > 0].index[:_MOST_FACTORS])
    if not names:
        return blank("No latent unit knows anything about any factor.")
    units = list(dict.fromkeys(information[name].idxmax() for name in names))
    share = information.loc[units, names].to_numpy()

    def cell(i: int, j: int) -> tuple[str, str]:
        percent = 100 * share[i, j]
        return f"{percent:.0f}", escape(f"unit {units[i]} knows {percent:.1f}% of {names[j]}")

    return matrix(
        share / share.max(),
        cell,
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
    """
    if values.empty:
        return blank("No model was scored.")
    models = [str(name) for name in values.index]
    columns = [words(str(name)) for name in values.columns]

    def cell(i: int, j: int) -> tuple[str, str]:
        text = shown(float(f"{values.iat[i, j]:.3g}"))
        place = f"{text}, place {ranks.iat[i, j]:g} of {len(models)}"
        said = f"{escape(models[i])} on {columns[j]}: {place}"
        return (f"{text} ★", f"{said}, first only at home") if marks.iat[i, j] else (text, said)

    last = max(len(models) - 1, 1)
    return matrix(1 - (ranks.to_numpy(float) - 1) / last, cell, rows=models, columns=columns)


def matrix(
    strength: NDArray[np.float64],
    cell: Callable[[int, int], tuple[str, str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    scale: Sequence[Sequence[Any]] = _AMOUNTS,
) -> go.Figure:
    """Cells with texts in them, coloured by numbers in [0, 1]; empty where there is no number.

    A page that is too narrow for the texts scrolls (`layout.meta`).

    Args:
        strength: (rows, columns).
        cell: of a row and a column, the text in the cell, and what appears on pointing at it;
            both escaped.
        rows: names, from top to bottom.
        columns: names, from left to right.
        scale: the colours, from 0 to 1; solid, for any page.
    """
    down, across = strength.shape
    cells = [[cell(i, j) for j in range(across)] for i in range(down)]
    quiet = {"showgrid": False, "showline": False, "ticks": ""}
    made = figure(
        height=130 + _ROW * down,
        margin={"l": 8, "r": 100, "t": 8, "b": 8},
        xaxis={"tickangle": -40, "side": "top", **_names(columns), **quiet},
        yaxis={"autorange": "reversed", **_names(rows), **quiet},
        meta={"least_width": 200 + _COLUMN * across},
    )
    return made.add_heatmap(
        z=strength,
        zmin=0,
        zmax=1,
        colorscale=[list(stop) for stop in scale],
        showscale=False,
        xgap=2,
        ygap=2,
        text=[[text for text, _ in row] for row in cells],
        texttemplate="%{text}",  # its ink is light on dark cells and dark on light ones
        textfont_size=12,
        hovertext=[[said for _, said in row] for row in cells],
        hoverinfo="text",
    )


def _names(texts: Sequence[str]) -> dict[str, Any]:
    return {"tickvals": list(range(len(texts))), "ticktext": [label(text) for text in texts]}
