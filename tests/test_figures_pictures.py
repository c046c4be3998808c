"""Figures of images and of latent spaces: the right pixels, in the right places."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import mutual_info_score
from torch import Tensor

import models
from analysis import figures
from analysis.figures.tiles import Row, heat, tiles
from analysis.trained.latents import (
    decode,
    factor_table,
    information,
    interpolate,
    nearest,
    posteriors,
    traverse,
    unit_kl,
)
from experiments.data import to_float
from experiments.data.cats import draw_factors
from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.scoring.evaluation import draw_samples, reconstruct
from models.network import Network
from tests import tables


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return models.create("conv", image_shape=(3, 32, 32), latent_dim=6, width=4).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)


def pixels(figure: Any, row: int) -> list[np.ndarray[Any, Any]]:
    """The images of a row, (H, W, 3) each, as the page shows them."""
    source = figure.layout.images[row].source
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    strip = np.asarray(Image.open(io.BytesIO(data)))
    filled = strip[0, :, 3] > 0
    starts = np.flatnonzero(np.diff(filled, prepend=False) & filled)
    return [strip[:, s : s + strip.shape[0], :3] for s in starts]


def as_shown(image: Tensor, factor: int = 2) -> np.ndarray[Any, Any]:
    return image.numpy().transpose(1, 2, 0).repeat(factor, axis=0).repeat(factor, axis=1)


def texts(figure: Any) -> list[Any]:
    return [text for trace in figure.data for text in trace.text]


def test_reconstructions_show_images_above_each_network_with_its_scores(
    network: Network, images: Tensor
) -> None:
    figure = figures.reconstructions(images[:3], {"mse": network, tables.HOSTILE: network})

    shown = reconstruct(network, images[:3], "cpu")
    for j in range(3):
        np.testing.assert_array_equal(pixels(figure, 0)[j], as_shown(images[j]))
        np.testing.assert_array_equal(pixels(figure, 1)[j], as_shown(shown[j]))
    scores = reconstruction_metrics(to_float(shown), to_float(images[:3]))
    expected = [
        f"{p:.1f} dB, {s:.2f}"
        for p, s in zip(scores["psnr"].tolist(), scores["ssim"].tolist(), strict=True)
    ]
    assert texts(figure) == 2 * expected
    assert "<script" not in str(figure.layout.yaxis.ticktext)


def test_an_error_map_is_black_where_nothing_is_wrong_and_white_at_the_largest() -> None:
    error = np.array([[[0.0, 0.2], [0.4, 0.9]]])

    shown = heat(error, 0.4)

    assert shown.shape == (1, 3, 2, 2)
    assert shown[0, :, 0, 0].max() < 10
    assert (shown[0, :, 1, 0] == shown[0, :, 1, 1]).all()
    assert shown[0, :, 1, 0].min() > 150
    assert shown[0].mean(axis=0)[0, 1] < shown[0].mean(axis=0)[1, 0]


def test_samples_are_those_of_the_prior(network: Network) -> None:
    figure = figures.samples({"mse": network}, count=4, seed=3)

    drawn = draw_samples(network, 4, seed=3, device="cpu")
    for shown, image in zip(pixels(figure, 0), drawn, strict=True):
        np.testing.assert_array_equal(shown, as_shown(image))


def test_traversals_are_in_the_order_of_the_kl_and_move_one_unit(
    network: Network, images: Tensor
) -> None:
    figure = figures.traversals(network, images, start=images[0], units=4, reach=2, steps=5)

    kl = unit_kl(network, images)
    order = np.argsort(-kl)[:4]
    expected = [f"unit {unit}, {kl[unit]:.1f} nats" for unit in order]
    assert list(figure.layout.yaxis.ticktext) == expected
    assert list(figure.layout.xaxis.ticktext) == ["-2", "-1", "0", "+1", "+2"]
    start = posteriors(network, images[:1])[0][0].clone()
    start[int(order[1])] = 1.0
    np.testing.assert_array_equal(pixels(figure, 1)[3], as_shown(decode(network, start[None])[0]))


def test_a_traversal_changes_nothing_but_its_unit() -> None:
    latents = traverse(torch.arange(4.0), 2, torch.tensor([-1.0, 5.0]))

    assert latents.tolist() == [[0, 1, -1, 3], [0, 1, 5, 3]]


def test_an_interpolation_begins_and_ends_with_the_reconstructions(
    network: Network, images: Tensor
) -> None:
    figure = figures.interpolation({"mse": network}, images[0], images[1], steps=4)

    shown = pixels(figure, 0)
    ends = reconstruct(network, images[:2], "cpu")
    assert len(shown) == 4
    np.testing.assert_allclose(shown[0].astype(int), as_shown(ends[0]).astype(int), atol=1)
    np.testing.assert_allclose(shown[3].astype(int), as_shown(ends[1]).astype(int), atol=1)


def test_an_interpolation_of_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more steps, but got 1"):
        interpolate(torch.zeros(3), torch.ones(3), 1)


def test_the_nearest_image_of_a_copy_is_the_original_at_no_distance() -> None:
    generator = torch.Generator().manual_seed(2)
    among = torch.randint(0, 256, (1500, 1, 4, 4), generator=generator, dtype=torch.uint8)

    places, errors = nearest(among[[7, 1400]], among)

    assert places.tolist() == [7, 1400]
    assert errors.tolist() == [0, 0]


def test_the_nearest_image_is_that_of_a_search_through_all() -> None:
    among = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8)
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)

    places, errors = nearest(images, among)

    for image, place, error in zip(images, places, errors, strict=True):
        all_errors = ((image.double() - among.double()) / 255).square().mean(dim=(1, 2, 3)).sqrt()
        assert place == all_errors.argmin()
        assert error.item() == pytest.approx(all_errors.min().item(), rel=1e-5)


def test_memorising_shows_as_no_distance(network: Network, images: Tensor) -> None:
    train = torch.cat([images, draw_samples(network, 3, seed=0, device="cpu")])

    figure = figures.nearest_training_images(network, train, held_out=images[:4], count=3)

    assert texts(figure) == ["0.000"] * 3
    for above, below in zip(pixels(figure, 0), pixels(figure, 1), strict=True):
        np.testing.assert_array_equal(above, below)
    assert "of held-out images 0.000" in figure.layout.annotations[0].text


def test_without_networks_the_figure_says_so(images: Tensor) -> None:
    for figure in (
        figures.reconstructions(images, {}),
        figures.samples({}),
        figures.interpolation({}, images[0], images[1]),
    ):
        assert "no trained model" in figure.layout.annotations[0].text


def test_grey_images_become_pictures() -> None:
    figure = tiles([Row("a", np.full((1, 1, 64, 64), 9, dtype=np.uint8))])

    assert (pixels(figure, 0)[0] == 9).all()


def test_information_is_all_for_a_copy_and_none_for_chance() -> None:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(4000, 3))
    factors = pd.DataFrame(
        {
            "copy": np.exp(latents[:, 1]),
            "sign": pd.Categorical(np.where(latents[:, 2] > 0, "plus", "minus")),
            "chance": rng.normal(size=4000),
        }
    )

    found = information(latents, factors)

    assert found.loc[1, "copy"] == pytest.approx(1, abs=0.01)
    assert found.loc[2, "sign"] == pytest.approx(1, abs=0.03)
    assert found["chance"].max() < 0.01
    assert found.loc[0].max() < 0.01


def test_information_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    unit = rng.normal(size=500)
    kind = rng.integers(0, 4, 500) + (unit > 0)
    bins = pd.qcut(unit, 10, labels=False)

    found = information(unit[:, None], pd.DataFrame({"kind": pd.Categorical(kind)}))

    entropy = mutual_info_score(kind, kind)
    chance = 9 * 4 / (2 * 500)
    expected = (mutual_info_score(bins, kind) - chance) / entropy
    assert found.loc[0, "kind"] == pytest.approx(expected, abs=1e-3)


def test_information_needs_the_same_rows() -> None:
    with pytest.raises(ValueError, match="same rows, 2 or more, but got 3 and 2"):
        information(np.zeros((3, 1)), pd.DataFrame({"a": [1, 2]}))


def test_the_factors_of_cats_become_columns() -> None:
    factors = draw_factors(0, 0)

    table = factor_table(factors)

    assert len(table) == 128
    assert table["coat"].cat.categories[0] == "solid"
    np.testing.assert_allclose(table["fur lightness"], factors["fur"].mean(axis=1))
    assert not table.isna().any(axis=None)


def test_latent_factors_shows_what_units_know_best() -> None:
    table = pd.DataFrame({"x": [0.1, 0.6, 0.0], "coat": [0.3, 0.0, 0.0], "y": [0.0, 0.0, 0.0]})

    figure = figures.latent_factors(table)

    assert list(figure.layout.yaxis.ticktext) == ["unit 1", "unit 0"]
    assert list(figure.layout.xaxis.ticktext) == ["x", "coat"]
    assert texts(figure) == [["60", "0"], ["10", "30"]]
    assert "knows anything" in figures.latent_factors(table * 0).layout.annotations[0].text


def test_home_advantage_marks_and_ranks() -> None:
    models_ = ["mse", tables.HOSTILE]
    values = pd.DataFrame({"distance/mse": [0.01, 0.02], "psnr": [19.5, 18.25]}, index=models_)
    ranks = pd.DataFrame({"distance/mse": [1, 2], "psnr": [1, 2]}, index=models_)
    marks = pd.DataFrame({"distance/mse": [True, False], "psnr": [False, False]}, index=models_)

    figure = figures.home_advantage(values, ranks, marks)

    assert texts(figure) == [["0.01 ★", "19.5"], ["0.02", "18.2"]]
    assert figure.data[0].z.tolist() == [[1, 1], [0, 0]]
    assert list(figure.layout.xaxis.ticktext) == ["mse loss", "PSNR"]
    assert "<script" not in str(figure.layout.yaxis.ticktext) + str(figure.data[0].hovertext)
