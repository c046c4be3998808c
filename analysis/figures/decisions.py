"""What a comparison has found: how far each rival is behind the leader, and every pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.figures.matrices import matrix
from analysis.figures.style import BLUE, FAINT, GREY, INK, SKY, VERMILLION, blank, escape, figure
from analysis.figures.style import label as cut
from decisions import Decision, Pair, Rival
from decisions.answer import Measure

_ROW = 52  # pixels a rival
_FINDINGS = {
    "practically equal": (BLUE, "diamond"),
    "worse, but practically equal": (SKY, "triangle-up"),
    "worse": (VERMILLION, "square"),
    "open": (GREY, "circle-open"),
}

# Solid, so that numbers can be read on them on any page: colour, and whether ink is white.
_BETTER, _WORSE, _EQUAL, _OPEN = (0, 80, 127), (158, 66, 0), (203, 222, 233), (222, 222, 218)
_SCALE = [
    [place / 4, f"rgb{colour}"]
    for i, colour in enumerate((_WORSE, _OPEN, _EQUAL, _BETTER))
    for place in (i, i + 1)
]


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
        xaxis={
            "title": escape(f"{measure.title}: behind {leader} by{unit}"),
            "range": _reach(decision, measure),
        },
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
    for finding in _FINDINGS:
        places = [i for i, rival in enumerate(decision.rivals) if _finding(rival) == finding]
        if places:
            made.add_traces(_rows(decision, places, finding, names, measure))
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
    strength = np.full((len(order), len(order)), np.nan)
    texts = [[""] * len(order) for _ in order]
    hover = [[escape(names[i])] * len(order) for i in order]
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            if i == j:
                continue
            pair = both[i, j]
            strength[row, column], mark = _mark(pair, measure.margin)
            shown = f"{pair.difference:+z.{measure.digits}f}"
            texts[row][column] = (shown if float(shown) else shown[1:]) + mark
            said = "<br>".join(_said(pair, measure))
            hover[row][column] = f"{escape(names[i])} less {escape(names[j])}<br>{said}"
    labels = [names[i] for i in order]
    return matrix(
        strength, texts, hover, rows=labels, columns=labels, scale=_SCALE, white=(0.0, 0.9)
    )


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


def _reach(decision: Decision, measure: Measure) -> list[float]:
    """The ends of the axis: of all that is drawn, and a little room."""
    found = [0.0, -measure.margin, measure.margin]
    for rival in decision.rivals:
        pair = rival.pair
        found += [pair.difference, pair.low, pair.high, pair.equal_low, pair.equal_high]
    known = [value for value in found if math.isfinite(value)]
    room = 0.04 * (max(known) - min(known)) or 1.0
    return [min(known) - room, max(known) + room]


def _rows(
    decision: Decision,
    places: Sequence[int],
    finding: str,
    names: Sequence[str],
    measure: Measure,
) -> list[go.Scatter]:
    """The two intervals and the marker of each rival of one finding."""
    colour, symbol = _FINDINGS[finding]
    shown = [decision.rivals[i] for i in places]
    lines = {
        2: [(rival.pair.low, rival.pair.high) for rival in shown],
        7: [(rival.pair.equal_low, rival.pair.equal_high) for rival in shown],
    }
    traces = [
        go.Scatter(
            x=[x for low, high in ends for x in _ends(low, high)],
            y=[y for place in places for y in (place, place, None)],
            mode="lines",
            line={"color": colour, "width": width},
            hoverinfo="skip",
            legendgroup=finding,
            showlegend=False,
        )
        for width, ends in lines.items()
    ]
    hover = [
        "<br>".join(
            [
                f"<b>{escape(names[rival.level])}</b>, {finding}",
                f"behind {escape(names[decision.leader])} by",
                *_said(rival.pair, measure, decision.confidence),
            ]
        )
        for rival in shown
    ]
    traces.append(
        go.Scatter(
            x=[rival.pair.difference for rival in shown],
            y=list(places),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 12}
            | {"line": {"color": colour, "width": 2}},
            hovertext=hover,
            hoverinfo="text",
            legendgroup=finding,
            name=finding,
        )
    )
    return traces


def _ends(low: float, high: float) -> tuple[float | None, float | None, None]:
    """An interval as a part of a line that has gaps; all gap where there is none yet."""
    known = math.isfinite(low) and math.isfinite(high)
    return (low, high, None) if known else (None, None, None)


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
