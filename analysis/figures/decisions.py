"""What a comparison has found: how far each rival is behind the leader, and every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.matrices import matrix
from analysis.figures.style import BLUE, FAINT, GREY, INK, SKY, VERMILLION, blank, escape, figure
from analysis.figures.style import label as cut
from decisions import Decision, Measure, Pair, Rival

_ROW = 52  # pixels a rival
_FINDINGS = {
    "practically equal": (BLUE, "diamond"),
    "worse, but practically equal": (SKY, "triangle-up"),
    "worse": (VERMILLION, "square"),
    "open": (GREY, "circle-open"),
}

# Of levels that are worse, open, equal and better; solid, so that numbers can be read on them.
_COLOURS = ("rgb(158,66,0)", "rgb(222,222,218)", "rgb(203,222,233)", "rgb(0,80,127)")
_SCALE = [[place / 4, colour] for i, colour in enumerate(_COLOURS) for place in (i, i + 1)]


def effects(decision: Decision, names: Sequence[str], measure: Measure) -> go.Figure:
    """How far each rival is behind the leader, with intervals, and what does not matter shaded.

    The thin line is the interval of the finding «worse»: clear of zero, the leader is better. The
    thick one is the 90% interval of the finding «practically equal»: within the shaded margin, the
    difference does not matter. What reaches out of both is open.

    Args:
        decision: of these levels.
        names: of the levels, in the order of the scores.
        measure: what was compared; of one of which less is better, too, more is further behind.
    """
    leader = names[decision.leader]
    if not decision.rivals:
        return blank(f"There is nothing to compare {leader} with.")
    count = len(decision.rivals)
    unit = f" ({measure.unit})" if measure.unit else ""
    unit += "" if any(math.isfinite(r.pair.low) for r in decision.rivals) else ", no interval yet"
    made = figure(
        height=130 + _ROW * count,
        xaxis_title=escape(f"{measure.title}: behind {leader} by{unit}"),
        yaxis={
            "tickvals": list(range(count)),
            "ticktext": [
                f"{cut(names[rival.level])}<br>"
                + escape(measure.said(rival.pair.difference, measure.digits))
                for rival in decision.rivals
            ],
            "range": [count - 0.5, -0.6],
            "showgrid": False,
        },
    )
    if measure.margin > 0:
        made.add_vrect(
            x0=-measure.margin, x1=measure.margin, fillcolor=FAINT, line_width=0, layer="below"
        )
    made.add_vline(x=0, line={"color": INK, "width": 1.5})
    for finding, (colour, symbol) in _FINDINGS.items():
        shown = {i: r for i, r in enumerate(decision.rivals) if _finding(r) == finding}
        if not shown:
            continue
        found = [rival.pair for rival in shown.values()]
        thin = [(pair.difference, pair.low, pair.high) for pair in found]
        thick = [(pair.difference, pair.equal_low, pair.equal_high) for pair in found]
        common = {"x": [pair.difference for pair in found], "y": list(shown), "mode": "markers"}
        made.add_scatter(
            marker={"color": colour, "size": 1},
            error_x=_bars(thick, colour, 7),
            hoverinfo="skip",
            legendgroup=finding,
            showlegend=False,
            **common,
        )
        made.add_scatter(
            marker={"color": colour, "symbol": symbol, "size": 12}
            | {"line": {"color": colour, "width": 2}},
            error_x=_bars(thin, colour, 2),
            hovertext=[
                f"<b>{escape(names[rival.level])}</b>, {finding}<br>behind {escape(leader)} by<br>"
                + "<br>".join(_said(rival.pair, measure, decision.confidence))
                for rival in shown.values()
            ],
            hoverinfo="text",
            legendgroup=finding,
            name=finding,
            **common,
        )
    return made


def pairs(
    found: Mapping[tuple[int, int], Pair], names: Sequence[str], measure: Measure
) -> go.Figure:
    """By how much the level of each row is better than that of each column, best level on top.

    Blue and orange pairs are told apart; ≈ marks the practically equal, ? what is open.

    Args:
        found: of `decisions.all_pairs`, by the indices of the two levels.
        names: of all levels.
        measure: what was compared; of one of which less is better, too, + is better.
    """
    both = dict(found) | {(j, i): pair.reversed() for (i, j), pair in found.items()}
    if not both:
        return blank("There are no two levels to compare.")
    levels = {i for i, _ in both}
    gain = {i: sum(both[i, j].difference for j in levels - {i}) for i in levels}
    order = sorted(levels, key=lambda i: -gain[i])
    table = [[both.get((i, j)) for j in order] for i in order]
    margin = measure.margin
    strength = [[math.nan if p is None else _mark(p, margin)[0] for p in row] for row in table]

    def cell(row: int, column: int) -> tuple[str, str]:
        one, other = escape(names[order[row]]), escape(names[order[column]])
        pair = table[row][column]
        if pair is None:
            return "", one
        shown = f"{pair.difference:+z.{measure.digits}f}"
        text = (shown if float(shown) else shown[1:]) + _mark(pair, margin)[1]
        return text, "<br>".join([f"{one} less {other}", *_said(pair, measure)])

    labels = [names[i] for i in order]
    return matrix(np.array(strength), cell, rows=labels, columns=labels, scale=_SCALE)


def _mark(pair: Pair, margin: float) -> tuple[float, str]:
    """A place in the scale of colours, and what stands behind the number."""
    if pair.is_within(margin):
        return 2 / 3, " ≈"
    if pair.is_sure:
        return float(pair.difference > 0), ""
    return 1 / 3, " ?"


def _finding(rival: Rival) -> str:
    if rival.is_equal:
        return "worse, but practically equal" if rival.is_worse else "practically equal"
    return "worse" if rival.is_worse else "open"


def _bars(
    ends: Sequence[tuple[float, float, float]], colour: str, thickness: int
) -> dict[str, Any]:
    """Plotly's error bars from middles and intervals, of which some may not be known."""
    known = [
        (middle - low, high - middle) if math.isfinite(low) and math.isfinite(high) else (0, 0)
        for middle, low, high in ends
    ]
    return {
        "type": "data",
        "symmetric": False,
        "arrayminus": [below for below, _ in known],
        "array": [above for _, above in known],
        "color": colour,
        "thickness": thickness,
        "width": 0,
    }


def _said(pair: Pair, measure: Measure, confidence: float | None = None) -> list[str]:
    """The difference, its intervals and what they rest on, each escaped."""
    name = "interval" if confidence is None else f"{100 * confidence:.3g}% interval"
    ends = {name: (pair.low, pair.high), "90% interval": (pair.equal_low, pair.equal_high)}
    said = [
        f"{kind} {low:z.{measure.digits}f} to {high:z.{measure.digits}f}"
        for kind, (low, high) in ends.items()
        if math.isfinite(low) and math.isfinite(high)
    ]
    seeds = f"{pair.seeds} seed{'' if pair.seeds == 1 else 's'}"
    lines = [measure.said(pair.difference, measure.digits), *(said or ["no interval yet"]), seeds]
    return [escape(line) for line in lines]
