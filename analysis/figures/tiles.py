"""Rows of small images as one figure: what every figure of pictures is made of."""

from __future__ import annotations

import base64
import io
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
        images: (N, 1 or 3, H, W), uint8.
        captions: below each image; none for no room below.
        hover: for each image, text that appears on pointing at it; none for its caption.
        space: room above the row, in sides of an image.
    """

    name: str
    images: Pixels
    captions: Sequence[str] = ()
    hover: Sequence[str] = ()
    space: float = 0.0


def tiles(rows: Sequence[Row], *, columns: Sequence[str] = (), note: str = "") -> go.Figure:
    """A figure of rows of images; texts are shown as they are.

    Args:
        rows: from top to bottom.
        columns: shown above the first row.
        note: shown below the last one.

    Raises:
        ValueError: there are no rows, or their images are not such or differ in shape.
    """
    _check(rows)
    across = max(len(row.images) for row in rows)
    tops, end = _places(rows)
    bottom = end + (_CAPTION if note else 0)
    side = min(_LARGEST, _WIDTH / across)
    made = figure(
        height=round(bottom * side) + (56 if columns else 24),
        margin={"l": 8, "r": 8, "t": 32 if columns else 8, "b": 8},
        showlegend=False,
        meta={"least_width": round(_NAMES + across * side)},
        xaxis={
            "range": [-_GAP, across],
            "side": "top",
            "tickvals": [i + (1 - _GAP) / 2 for i in range(len(columns))],
            "ticktext": [label(text) for text in columns],
            "constrain": "domain",
            "constraintoward": "left",
        },
        yaxis={
            "range": [bottom, -_GAP],
            "tickvals": [top + (1 - _GAP) / 2 for top in tops],
            "ticktext": [label(row.name) for row in rows],
            "scaleanchor": "x",
            "constrain": "domain",
            "constraintoward": "top",
        },
    )
    axes = {"showgrid": False, "showline": False, "ticks": "", "fixedrange": True}
    made.update_xaxes(**axes)
    made.update_yaxes(**axes)
    for row, top in zip(rows, tops, strict=True):
        made.add_layout_image(
            source=data_uri(_strip(row.images)),
            x=0,
            y=top,
            xref="x",
            yref="y",
            sizex=len(row.images) - _GAP,
            sizey=1 - _GAP,
            sizing="stretch",
            layer="below",
        )
        made.add_traces(_texts(row, top, side))
    if note:
        place = {"x": 0, "y": end, "xanchor": "left", "yanchor": "top", "showarrow": False}
        made.add_annotation(text=escape(note), font_size=12, **place)
    return made


def data_uri(pixels: Pixels) -> str:
    """A PNG of pixels (H, W, 3 or 4) within a text."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def heat(values: NDArray[Any], largest: float) -> Pixels:
    """Numbers (N, H, W) as images (N, 3, H, W) from black for 0 to white for `largest` or more."""
    from plotly.colors import sample_colorscale

    colours = sample_colorscale("Inferno", np.linspace(0, 1, 256).tolist(), colortype="tuple")
    lookup = (np.asarray(colours) * 255).round().astype(np.uint8)
    levels = (values / max(largest, 1e-12)).clip(0, 1) * 255
    return np.ascontiguousarray(lookup[levels.round().astype(np.uint8)].transpose(0, 3, 1, 2))


def _check(rows: Sequence[Row]) -> None:
    shapes = [row.images.shape for row in rows]
    kinds = {(shape[-2:], row.images.dtype) for shape, row in zip(shapes, rows, strict=True)}
    good = all(len(shape) == 4 and shape[1] in (1, 3) and shape[0] > 0 for shape in shapes)
    if not good or len(kinds) != 1 or rows[0].images.dtype != np.uint8:
        raise ValueError(
            "rows must be uint8 images (N, 1 or 3, H, W) of one size, N >= 1, "
            f"but got {', '.join(map(str, shapes)) or 'none'}"
        )


def _places(rows: Sequence[Row]) -> tuple[list[float], float]:
    """Where each row begins, and where the last one ends."""
    tops, place = [], 0.0
    for row in rows:
        place += row.space
        tops.append(place)
        place += 1 + (_CAPTION if row.captions else 0)
    return tops, place


def _strip(images: Pixels) -> Pixels:
    """Images next to each other, (H, W, 4), with gaps to see through."""
    count, _, height, width = images.shape
    factor = -(-_LEAST_SIDE // height)
    pixels = np.broadcast_to(images, (count, 3, height, width)).transpose(0, 2, 3, 1)
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = pixels.shape[1:3]
    gap = round(width * _GAP / (1 - _GAP))
    strip = np.zeros((height, count * (width + gap) - gap, 4), dtype=np.uint8)
    for i, image in enumerate(pixels):
        left = i * (width + gap)
        strip[:, left : left + width, :3] = image
        strip[:, left : left + width, 3] = 255
    return strip


def _texts(row: Row, top: float, side: float) -> list[go.Scatter]:
    """Captions below images, and what appears on pointing at them."""
    centres = [i + (1 - _GAP) / 2 for i in range(len(row.images))]
    traces = []
    if row.captions:
        traces.append(
            go.Scatter(
                x=centres,
                y=[top + 1] * len(centres),
                mode="text",
                text=[escape(caption) for caption in row.captions],
                textposition="bottom center",
                textfont={"size": 11 if side > 75 else 9, "color": INK},
                hoverinfo="skip",
                cliponaxis=False,
            )
        )
    hover = row.hover or row.captions
    if hover:
        traces.append(
            go.Scatter(
                x=centres,
                y=[top + (1 - _GAP) / 2] * len(centres),
                mode="markers",
                marker={"size": 0.8 * side, "symbol": "square", "opacity": 0},
                hovertext=[escape(text).replace("\n", "<br>") for text in hover],
                hoverinfo="text",
            )
        )
    return traces
