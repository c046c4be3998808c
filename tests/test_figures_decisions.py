"""Figures of a decision: each interval, finding and number is the decision's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis import figures
from decisions import Array, Decision, Measure, Pair, all_pairs, decide
from tests.tables import HOSTILE

PSNR = Measure("PSNR", "dB", margin=0.1)
NAMES = ["mse", "l1", "ssim", "mix"]


@pytest.fixture
def scores() -> Array:
    """Of the leader, an equal, a worse and an open one."""
    noise = np.random.default_rng(0).normal(0, [[0.0], [0.01], [0.05], [0.4]], (4, 5))
    return np.array([[20.0], [19.99], [18.5], [19.8]]) + noise


def found(scores: Array) -> Decision:
    decision = decide(scores, PSNR.margin, 5)
    assert decision is not None
    return decision


def traces(figure: Any, finding: str) -> list[Any]:
    return [trace for trace in figure.data if trace.legendgroup == finding]


def interval(trace: Any) -> tuple[float, float]:
    """The ends of the only bar of a trace."""
    [x], [below], [above] = trace.x, trace.error_x.arrayminus, trace.error_x.array
    return x - below, x + above


def test_each_rival_has_its_place_its_two_intervals_and_its_finding(scores: Array) -> None:
    decision = found(scores)
    figure = figures.effects(decision, NAMES, PSNR)

    assert {trace.name for trace in figure.data if trace.name} == {
        "practically equal", "worse", "open",
    }  # fmt: skip
    [worse] = [rival for rival in decision.rivals if rival.is_worse and not rival.is_equal]
    thick, marker = traces(figure, "worse")
    assert NAMES[worse.level] == "ssim"
    assert interval(marker) == pytest.approx((worse.pair.low, worse.pair.high))
    assert interval(thick) == pytest.approx((worse.pair.equal_low, worse.pair.equal_high))
    assert thick.error_x.thickness > marker.error_x.thickness
    assert list(marker.x) == [worse.pair.difference]
    row = list(figure.layout.yaxis.tickvals).index(marker.y[0])
    assert figure.layout.yaxis.ticktext[row] == f"ssim<br>{worse.pair.difference:.2f} dB"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "the nearest is on top"
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data if trace.name}
    assert len({symbol for _, symbol in looks}) == 3, "findings differ not by colour alone"


def test_the_margin_is_shaded(scores: Array) -> None:
    figure = figures.effects(found(scores), NAMES, PSNR)

    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-0.1, 0.1)


def test_one_seed_has_no_interval_and_is_drawn(scores: Array) -> None:
    figure = figures.effects(found(scores[:, :1]), NAMES, PSNR)

    thick, marker = traces(figure, "open")
    assert set(marker.error_x.array) == set(thick.error_x.array) == {0}
    assert len(marker.x) == 3
    assert "no interval yet" in marker.hovertext[0]


def test_worse_by_next_to_nothing_is_a_finding_of_its_own() -> None:
    noise = np.random.default_rng(1).normal(0, 1e-4, (2, 5))
    figure = figures.effects(found(np.array([[20.0], [19.97]]) + noise), NAMES[:2], PSNR)

    assert [trace.name for trace in figure.data if trace.name] == ["worse, but practically equal"]


def test_a_matrix_of_pairs_reads_the_same_from_both_sides(scores: Array) -> None:
    pairs = all_pairs(scores, 5)
    figure = figures.pairs(pairs, NAMES, PSNR)

    order = list(figure.layout.yaxis.ticktext)
    assert order == list(figure.layout.xaxis.ticktext)
    assert order[0] == "mse"
    assert order[-1] == "ssim"
    texts = figure.data[0].text
    for (i, j), pair in pairs.items():
        row, column = order.index(NAMES[i]), order.index(NAMES[j])
        mark = " ≈" if pair.is_within(PSNR.margin) else "" if pair.is_sure else " ?"
        assert texts[row][column] == f"{pair.difference:+z.2f}{mark}"
        assert texts[column][row] == f"{-pair.difference:+z.2f}{mark}"
        assert (figure.data[0].z[row][column] == figure.data[0].z[column][row]) == bool(mark)
    assert all(texts[i][i] == "" for i in range(4))


def test_a_matrix_is_wide_enough_for_its_numbers() -> None:
    pair = Pair(0.1, -1, 1, -1, 1, 1.0, 3, paired=True)
    twelve = {(i, j): pair for i in range(12) for j in range(i + 1, 12)}
    figure = figures.pairs(twelve, [f"loss {i}" for i in range(12)], PSNR)

    assert figure.layout.meta["least_width"] > 12 * 8 * len("+0.10 ?")


def test_names_full_of_html_stay_text_and_nothing_to_compare_is_said(scores: Array) -> None:
    names = [HOSTILE, *NAMES[1:]]
    made = [
        figures.effects(found(scores), names, PSNR),
        figures.pairs(all_pairs(scores, 5), names, PSNR),
        figures.effects(found(scores[:1]), names, PSNR),
    ]
    for figure in made:
        shown = figure.to_json()
        assert "<script" not in shown.replace("\\u003c", "<")
    assert "nothing to compare" in made[2].layout.annotations[0].text
    assert "no two levels" in figures.pairs({}, names, PSNR).layout.annotations[0].text
