"""Images from which there is nothing to learn, since they are all the same, or nearly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from experiments import building
from experiments.data import ImageSet, split
from experiments.errors import UserError
from experiments.preflight.components import Explained
from experiments.preflight.telling import forecast_trial
from experiments.trial import run_trial
from tests.conftest import Compose


def _folder(path: Path, pictures: list[NDArray[np.uint8]]) -> Path:
    path.mkdir()
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


_WHITE = np.full((32, 32, 3), 255, np.uint8)
_CLEAR = np.zeros((32, 32, 4), np.uint8)
_NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
_RAMP = np.arange(0, 256, 8, dtype=np.uint8)[:, None, None].repeat(32, 1).repeat(3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (_WHITE, r"all 40 .* the same picture, plain \(255, 255, 255\) of 255.*; what is transp"),
        (_WHITE // 255 * 7, r"plain \(7, 7, 7\) of 255 at this size; add others"),
        (_CLEAR, "what is transparent shows white"),
        (_WHITE[:1, :1], "plain"),
        (_NOISE, "are the same picture at this size; add others"),
    ],
)
def test_one_picture_again_and_again_is_refused_in_words_of_the_images(
    tiny: Compose, tmp_path: Path, picture: NDArray[np.uint8], message: str
) -> None:
    root = _folder(tmp_path / "photos", [picture] * 40)
    config = tiny("data=images", f"data.root={root}")
    with pytest.raises(UserError, match=message):
        run_trial(config, tmp_path / "trial")
    assert not (tmp_path / "trial").exists()


def test_a_training_split_of_one_picture_is_refused() -> None:
    digests = np.array([7] * 40 + list(range(100, 112)), dtype=np.uint64)
    # A seed that puts everything else elsewhere.
    seeds = (s for s in range(10_000) if _train_is_alike(digests, s))
    with pytest.raises(UserError, match=r"all 40 of the training split are the same picture"):
        split(digests, val_fraction=0.45, test_fraction=0.45, seed=next(seeds))


def _train_is_alike(digests: NDArray[np.uint64], seed: int) -> bool:
    try:
        split(digests, val_fraction=0.45, test_fraction=0.45, seed=seed)
    except UserError as error:
        return "same picture" in str(error)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 6))
def test_too_few_images_are_refused_with_how_many_there_must_be(
    tiny: Compose, tmp_path: Path, count: int
) -> None:
    root = _folder(tmp_path / "photos", [np.roll(_NOISE, i) for i in range(count)])
    with pytest.raises(UserError, match=r"each split must have 2 images or more.*need about \d+"):
        run_trial(tiny("data=images", f"data.root={root}"), tmp_path / "trial")


def test_images_that_hardly_differ_are_told(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = []
    for i in range(60):
        picture = _RAMP.copy()
        picture[i % 32, i // 32, 0] += 1
        pictures.append(picture)
    config = tiny("data=images", f"data.root={_folder(tmp_path / 'photos', pictures)}")
    with caplog.at_level(logging.WARNING):
        forecast_trial(config, *_loss_and_images(config))
    assert "the images hardly differ" in caplog.text


def test_images_that_differ_are_not_told_to_be_alike(
    tiny: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny()
    with caplog.at_level(logging.WARNING):
        forecast_trial(config, *_loss_and_images(config))
    assert "hardly differ" not in caplog.text


def _loss_and_images(config: dict[str, Any]) -> tuple[Any, ImageSet, NDArray[np.int64]]:
    images = building.load(config)
    loss = building.build_loss(config, images.image_shape)
    return loss, images, building.splits_of(config, images).train


def test_a_loss_that_sees_no_difference_is_named_and_not_its_numbers(
    tiny: Compose, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.preflight.forecasting._LAST", {})
    config = tiny()
    loss, images, train = _loss_and_images(config)
    monkeypatch.setattr(
        "experiments.preflight.components.explained", lambda *_: Explained(np.zeros(64), 0.0, 2.0)
    )
    assert forecast_trial(config, loss, images, train) is None
    assert "loss=mse" in caplog.text
    assert "cannot tell these images apart" in caplog.text
    assert "mean_distance" not in caplog.text
