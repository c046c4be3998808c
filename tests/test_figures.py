"""Figures of tables: what is drawn is what the table says, whatever the table is like."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import figures
from analysis.figures.search import on_front
from analysis.figures.style import escape, label, looks
from analysis.ranking import parameter_importance
from analysis.runs import Runs
from losses import names
from tests import tables

OF_TABLES: list[Callable[[Runs], Any]] = [
    figures.learning_curves,
    figures.pruning,
    figures.pareto_front,
    figures.importance,
    figures.slices,
]


def every_text(figure: Any) -> list[str]:
    """All texts that plotly would read as HTML; it shows neither data nor names of groups."""
    unseen = ("customdata", "legendgroup")

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [t for k, v in value.items() if k not in unseen for t in texts(v)]
        if isinstance(value, list | tuple):
            return [t for v in value for t in texts(v)]
        return [value] if isinstance(value, str) else []

    return texts({k: v for k, v in figure.to_plotly_json().items() if k != "template"})


@pytest.fixture(scope="module")
def runs() -> Runs:
    return tables.search()


@pytest.mark.parametrize("draw", OF_TABLES)
def test_every_figure_of_a_search_draws_something(draw: Callable[[Runs], Any], runs: Runs) -> None:
    assert len(draw(runs).data) > 0


@pytest.mark.parametrize("draw", OF_TABLES)
@pytest.mark.parametrize(
    "poor",
    [
        tables.empty(),
        replace(tables.search(4), trials=tables.search(4).trials.assign(status="failed")),
        replace(
            tables.search(4),
            trials=tables.search(4).trials.assign(**{"val/psnr": np.nan}),
            history=tables.search(4).history.assign(**{"val/psnr": np.inf}),
        ),
    ],
    ids=["empty", "all failed", "nothing finite"],
)
def test_where_nothing_can_be_drawn_the_figure_says_why(
    draw: Callable[[Runs], Any], poor: Runs
) -> None:
    figure = draw(poor)

    assert len(figure.data) > 0 or figure.layout.annotations[0].text.endswith(".")


@pytest.mark.parametrize("draw", OF_TABLES)
def test_a_single_trial_is_enough(draw: Callable[[Runs], Any]) -> None:
    figure = draw(tables.search(1))

    assert len(figure.data) + len(figure.layout.annotations) > 0


@pytest.mark.parametrize("draw", OF_TABLES)
def test_names_full_of_html_stay_text(draw: Callable[[Runs], Any]) -> None:
    hostile = tables.search(12, losses=(tables.HOSTILE, "<a href='javascript:1'>ssim</a>", "mse"))

    for text in every_text(draw(hostile)):
        assert "<script" not in text
        assert "<a " not in text
        assert "$y$" not in text


@pytest.mark.parametrize("draw", OF_TABLES)
def test_an_unknown_metric_is_refused_with_the_choices(
    draw: Callable[..., Any], runs: Runs
) -> None:
    wrong = ("psnr", "psnrr") if draw is figures.pareto_front else "psnrr"
    argument = ["psnrr"] if draw is figures.importance else wrong

    with pytest.raises(ValueError, match=r"must be one of .*psnr.* but got 'psnrr'"):
        draw(runs, argument)


def test_an_unknown_column_to_group_by_is_refused(runs: Runs) -> None:
    with pytest.raises(ValueError, match=r"columns of the trials, but got loss\.nam"):
        figures.learning_curves(runs, by=["loss.nam"])


def test_escaping_keeps_the_text() -> None:
    assert html.unescape(escape(tables.HOSTILE)) == tables.HOSTILE
    assert len(html.unescape(label("x" * 1000))) < 40


def test_a_loss_looks_the_same_in_every_company_and_like_no_other() -> None:
    alone = looks(["ssim"])["ssim"]
    company = looks([*names(), "mine", "yours"])

    assert company["ssim"] == alone
    assert len(set(company.values())) == len(company)
    assert looks(["ssim, mean"])["ssim, mean"].colour == alone.colour
    assert looks(["ssim, mean"])["ssim, mean"] != looks(["ssim, sum"])["ssim, sum"]


def test_learning_curves_show_median_and_quartiles_of_completed_trials(runs: Runs) -> None:
    figure = figures.learning_curves(runs)

    line = next(t for t in figure.data if t.name == "l1")
    trials = runs.trials.query("status == 'completed' and `loss.name` == 'l1'")["trial"]
    history = runs.history[runs.history["trial"].isin(trials)]
    epochs = history.groupby("epoch")["val/psnr"]
    assert list(line.x) == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(line.y, epochs.median())
    np.testing.assert_allclose(line.customdata[:, 1], epochs.quantile(0.75))


def test_a_trial_that_stopped_early_keeps_its_last_value() -> None:
    runs = tables.search(1)
    other = runs.history.assign(trial="demo/b")[:2]
    trials = pd.concat([runs.trials, runs.trials.assign(trial="demo/b")])

    figure = figures.learning_curves(Runs(trials, pd.concat([runs.history, other])))

    last, early = runs.history["val/psnr"].iloc[-1], other["val/psnr"].iloc[-1]
    assert figure.data[-1].y[-1] == pytest.approx((last + early) / 2)


def test_pruning_ends_each_curve_where_the_trial_ended(runs: Runs) -> None:
    figure = figures.pruning(runs)

    ends = {t.name: t for t in figure.data if t.name}
    assert set(ends) == {
        "completed (18)", "pruned (4)", "failed, interrupted or running (2)",
    }  # fmt: skip
    pruned = runs.trials[runs.trials["status"] == "pruned"]
    assert [c[0] for c in ends["pruned (4)"].customdata] == list(pruned["trial"])
    np.testing.assert_allclose(ends["pruned (4)"].y, pruned["val/psnr"])
    assert list(ends["pruned (4)"].x) == list(pruned["epochs"])


def test_the_front_is_what_no_point_dominates() -> None:
    points = np.random.default_rng(1).normal(size=(200, 2)).round(1)

    for maximize in ([True, True], [True, False], [False, False]):
        signed = np.where(maximize, points, -points)
        better = (signed[:, None] >= signed).all(2) & (signed[:, None] > signed).any(2)
        expected = {tuple(p) for p in points[~better.any(axis=0)]}
        found = points[on_front(points, maximize)]
        assert len(found) == len(expected)
        assert {tuple(p) for p in found} == expected
        assert (np.diff(found[:, 0]) > 0).all()


def test_importance_finds_the_parameter_that_matters() -> None:
    runs = tables.search(96)
    value = np.log10(runs.trials["lr"])

    table = parameter_importance(
        replace(runs, trials=runs.trials.assign(**{"val/psnr": value, "val/kl": -value}))
    )

    assert table.index[0] == "lr"
    assert table["psnr"].sum() == pytest.approx(1)
    assert table.loc["lr", "psnr"] > 0.6


def test_slices_use_a_log_axis_where_ratios_count(runs: Runs) -> None:
    figure = figures.slices(runs)

    assert figure.layout.xaxis2.type == "log"
    axes = (figure.layout.xaxis, figure.layout.xaxis2, figure.layout.xaxis3)
    assert [axis.title.text for axis in axes] == ["loss.name", "lr", "latent_dim"]
    points = next(t for t in figure.data if t.name == "ssim" and t.xaxis == "x2")
    ssim = runs.trials.query("status == 'completed' and `loss.name` == 'ssim'")
    np.testing.assert_allclose(points.x, ssim["lr"])
    np.testing.assert_allclose(points.y, ssim["val/psnr"])
    assert points.hovertext[0].startswith(f"<b>{ssim['trial'].iloc[0]}</b>, completed")
    assert "lr 0.00" in points.hovertext[0]


def test_a_parameter_that_only_some_trials_have_is_drawn_for_those(runs: Runs) -> None:
    window = runs.trials["loss.name"].map({"ssim": 7.0})
    partly = replace(
        runs,
        trials=runs.trials.assign(**{"loss.window_size": window}),
        searched=("loss.name", "loss.window_size"),
    )

    drawn = [t for t in figures.slices(partly).data if t.xaxis == "x2"]
    assert sum(len(t.x) for t in drawn) == 6
    assert figures.importance(partly).layout.annotations[0].text.startswith("Importances need")
