"""A loss that wins only on its own ground is marked, and one that wins elsewhere is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

import losses
from analysis.comparison import compare
from analysis.home import HomeAdvantage, home, home_advantage
from analysis.trained.scores import Scores
from experiments.metrics import measured
from tests.planted import Planted, runs


def matrix(
    values: Mapping[str, Mapping[str, float]], images: Mapping[str, str] | None = None
) -> HomeAdvantage:
    """Of models, one seed each, from their scores: by loss that trained them and column."""
    names = {f"cats/{number}": loss for number, loss in enumerate(values)}
    table = {
        trial: {column: np.full(5, value) for column, value in values[loss].items()}
        for trial, loss in names.items()
    }
    scores = Scores("test", table, pd.DataFrame(index=list(table)), dict.fromkeys(table, "cats"))
    known = compare(runs([Planted(loss) for loss in values]), scores)
    return home_advantage(known, scores)


def test_wins_on_its_own_loss_and_kin_alone_are_marked() -> None:
    found = matrix(
        {
            "mse": {"psnr": 20.0, "ssim": 0.5, "distance/mse": 0.01, "distance/ssim": 0.5},
            "ssim": {"psnr": 17.0, "ssim": 0.6, "distance/mse": 0.02, "distance/ssim": 0.4},
        }
    )
    assert found.values.columns.tolist() == ["psnr", "ssim", "distance/mse", "distance/ssim"]
    assert found.ranks.loc["mse"].tolist() == [1, 2, 1, 2]
    assert found.marks.loc["mse"].tolist() == [True, False, True, False]
    assert found.marks.loc["ssim"].tolist() == [False, True, False, True]
    assert found.sentences == [
        "mse wins only at home, on PSNR and mse loss: that is what it was trained for",
        "ssim wins only at home, on SSIM and ssim loss: that is what it was trained for",
        "wins are by the mean, without a test: what is sure, the answer says",
    ]


def test_a_loss_that_wins_away_from_home_is_not_marked() -> None:
    found = matrix({"mse": {"psnr": 20.0, "ssim": 0.7}, "ssim": {"psnr": 17.0, "ssim": 0.6}})
    assert not found.marks.to_numpy().any()
    assert found.sentences == [
        "mse wins away from home on SSIM and at home on PSNR",
        "ssim wins nowhere, at home neither",
        "wins are by the mean, without a test: what is sure, the answer says",
    ]


def test_a_column_that_a_model_lacks_is_empty_there() -> None:
    found = matrix({"mse": {"psnr": 20.0, "distance/ms_ssim": 0.1}, "l1": {"psnr": 19.0}})
    assert np.isnan(found.values.loc["l1", "distance/ms_ssim"])
    assert found.ranks.loc["mse", "distance/ms_ssim"] == 1


def test_one_model_alone_has_no_advantage_over_others() -> None:
    assert matrix({"mse": {"psnr": 20.0}}).sentences == []


def test_without_models_the_tables_are_empty() -> None:
    scores = Scores("test", {}, pd.DataFrame())
    found = home_advantage(compare(runs([]), scores), scores)
    assert found.values.empty
    assert found.sentences == []


@pytest.mark.parametrize("name", [n for n in losses.names() if n != "custom"])
def test_every_loss_is_at_home_in_itself_and_away_somewhere(name: str) -> None:
    columns = home({"loss.name": name})
    assert f"distance/{name}" in columns
    assert set(measured("reconstructions")) - columns


def test_a_mix_is_at_home_where_its_terms_are() -> None:
    assert {"l1", "ms_ssim"} < home({"loss.name": "mix"})
    columns = home({"loss.name": "mix", "loss.terms": ["mse"]})
    assert "psnr" in columns
    assert "l1" not in columns
