"""Rows of small images as one figure: what every figure of pictures is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.figures.style import INK, escape, figure, label

Pixels = NDArray[np.uint8]

_GAP = 0.05  # between images, in sides of an image
_CAPTION = 0.25
_LEAST_SIDE = 64  # pixels to which small images are enlarged
_WIDTH = 640  # of a row in a figure of usual width, pixels
_LARGEST = 96  # side of an image on the page, pixels
_NAMES = 130  # room for the names of rows, pixels; a page that is too narrow for all scrolls


@dataclass(frozen=True)
class Row:
    """Images side by side.

    Attributes:
        name: shown at the left.
        images: (N, 1 or 3, H, W), uint8, N >= 1; of all rows of one height and width.
        captions: below each image; none for no room below.
    """

    name: str
    images: Pixels
    captions: Sequence[str] = ()


def tiles(rows: Sequence[Row], *, columns: Sequence[str] = (), note: str = "") -> go.Figure:
    """A figure of rows of images; texts are shown as they are.

    Args:
        rows: from top to bottom, at least one.
        columns: shown above the first row.
        note: shown below the last one.
    """
    from PIL import Image

    across = max(len(row.images) for row in rows)
    side = min(_LARGEST, _WIDTH / across)
    heights = [1 + (_CAPTION if row.captions else 0) for row in rows]
    *tops, end = np.cumsum([0, *heights]).tolist()
    bottom = end + (_CAPTION if note else 0)
    middle = (1 - _GAP) / 2
    common = {"showgrid": False, "showline": False, "ticks": "", "fixedrange": True}
    made = figure(
        height=round(bottom * side) + (56 if columns else 24),
        margin={"l": 8, "r": 8, "t": 32 if columns else 8, "b": 8},
        showlegend=False,
        meta={"least_width": round(_NAMES + across * side)},
        xaxis={
            "range": [-_GAP, across],
            "side": "top",
            "tickvals": [i + middle for i in range(len(columns))],
            "ticktext": [label(text) for text in columns],
            "constrain": "domain",
            "constraintoward": "left",
            **common,
        },
        yaxis={
            "range": [bottom, -_GAP],
            "tickvals": [top + middle for top in tops],
            "ticktext": [label(row.name) for row in rows],
            "scaleanchor": "x",
            "constrain": "domain",
            "constraintoward": "top",
            **common,
        },
    )
    for row, top in zip(rows, tops, strict=True):
        made.add_layout_image(
            source=Image.fromarray(_strip(row.images)),
            x=0,
            y=top,
            xref="x",
            yref="y",
            sizex=len(row.images) - _GAP,
            sizey=1 - _GAP,
            sizing="stretch",
            layer="below",
        )
        made.add_scatter(
            x=[i + middle for i in range(len(row.captions))],
            y=[top + 1] * len(row.captions),
            mode="text",
            text=[escape(caption) for caption in row.captions],
            textposition="bottom center",
            textfont={"size": 11 if side > 75 else 9, "color": INK},
            hoverinfo="skip",
            cliponaxis=False,
        )
    if note:
        place = {"x": 0, "y": end, "xanchor": "left", "yanchor": "top", "showarrow": False}
        made.add_annotation(text=escape(note), font_size=12, **place)
    return made


def heat(values: NDArray[Any], largest: float) -> Pixels:
    """Numbers (N, H, W) as images (N, 3, H, W) from black for 0 to white for `largest` or more."""
    from plotly.colors import sample_colorscale

    colours = sample_colorscale("Inferno", np.linspace(0, 1, 256).tolist(), colortype="tuple")
    lookup = (np.asarray(colours) * 255).round().astype(np.uint8)
    levels = (values / largest).clip(0, 1) * 255
    return np.ascontiguousarray(lookup[levels.round().astype(np.uint8)].transpose(0, 3, 1, 2))


def _strip(images: Pixels) -> Pixels:
    """Images next to each other, (H, W, 4), with gaps to see through."""
    count, _, height, width = images.shape
    factor = -(-_LEAST_SIDE // height)
    pixels = np.broadcast_to(images, (count, 3, height, width)).transpose(0, 2, 3, 1)
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    pixels = np.pad(pixels, [*[(0, 0)] * 3, (0, 1)], constant_values=255)
    gap = round(width * factor * _GAP / (1 - _GAP))
    pixels = np.pad(pixels, [(0, 0), (0, 0), (0, gap), (0, 0)])
    return np.hstack(list(pixels))[:, : -gap or None]
