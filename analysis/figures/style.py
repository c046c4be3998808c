"""One look for all figures: a template, a fixed colour for each loss, and text that stays text.

Colours are those of Okabe and Ito (2008, "Color universal design") that show on white and on
black, the blue a little lighter; a different dash and marker goes with each, so that nothing rests
on colour alone. Backgrounds are transparent and everything else is a grey that can
be read on both.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import plotly.graph_objects as go

import losses

INK = "#777777"
"""Of text and axes: about 4.5 to 1 on white and 4 to 1 on black."""
FAINT = "rgba(128,128,128,0.25)"
"""Of grid lines and of what stays in the background."""
BLUE, ORANGE, SKY, GREEN, VERMILLION, PURPLE, GREY = COLOURS = (
    "#1B7FC0", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "pentagon",
    "hexagram", "star", "triangle-left", "triangle-right", "bowtie",
)  # fmt: skip
_VARIANTS = ("", "-open", "-dot", "-open-dot")
_LONGEST = 36  # characters of a label


class Look(NamedTuple):
    """How a group is drawn wherever it appears."""

    colour: str
    dash: str
    symbol: str

    @property
    def band(self) -> str:
        """The colour as rgba, faint."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.15)"


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """How each label is drawn: a loss always in the same way, whatever else is in the figure.

    A label may go on after the loss, as in «ssim, mean»: the colour stays, dash and marker change.
    Labels without a loss take what is left, in their order.
    """
    known = losses.names()
    parts = {label: label.partition(", ")[::2] for label in labels}
    taken = {known.index(name) for name, _ in parts.values() if name in known}
    free = (i for i in count() if i not in taken)
    rests = [rest for name, rest in parts.values() if rest and name in known]
    variants = list(dict.fromkeys([*losses.SCALES, *rests]))
    return {
        label: _look(known.index(name), variants.index(rest) if rest else 0)
        if name in known
        else _look(next(free), 0)
        for label, (name, rest) in parts.items()
    }


def figure(**layout: Any) -> go.Figure:
    """An empty figure in the common style; `layout` as plotly's, on top of it."""
    return go.Figure(layout={"template": TEMPLATE, "height": 380}).update_layout(**layout)


def blank(message: str) -> go.Figure:
    """A figure that says why there is nothing to see."""
    made = figure(height=160, xaxis_visible=False, yaxis_visible=False)
    return made.add_annotation(
        text=escape(message), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
    )


def escape(text: object) -> str:
    """Text that plotly shows as it is, which else would read it as HTML or LaTeX."""
    return html.escape(str(text), quote=False).replace("$", "&#36;")


def label(text: object) -> str:
    """Escaped text for a legend or an axis, cut in its middle if it is long."""
    plain = " ".join(str(text).split())
    if len(plain) > _LONGEST:
        half = (_LONGEST - 1) // 2
        plain = f"{plain[:half]}…{plain[-half:]}"
    return escape(plain)


def _look(index: int, variant: int) -> Look:
    return Look(
        COLOURS[index % len(COLOURS)],
        _DASHES[(index + variant) % len(_DASHES)],
        _SYMBOLS[index % len(_SYMBOLS)] + _VARIANTS[variant % len(_VARIANTS)],
    )


_CLEAR = "rgba(0,0,0,0)"
_AXIS = {
    "gridcolor": FAINT, "linecolor": INK, "showline": True, "ticks": "outside", "ticklen": 4,
    "tickcolor": INK, "zeroline": False, "automargin": True, "title": {"standoff": 10},
    "exponentformat": "power",
}  # fmt: skip
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "colorway": list(COLOURS),
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": ""},
        "margin": {"l": 56, "r": 16, "t": 24, "b": 48},
        "hoverlabel": {
            "bgcolor": "#333333",
            "bordercolor": "#999999",
            "font": {"color": "white", "size": 12},
            "align": "left",
        },
        "hovermode": "closest",
        "modebar": {"bgcolor": _CLEAR, "color": INK, "activecolor": BLUE},
    }
)
