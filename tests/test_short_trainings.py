"""A structural loss leaves the mean image behind in a training as short as `quick`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments import building
from experiments.trial import run_trial
from tests.conftest import Compose

pytestmark = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="module")
def few(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 700 real images, 32x32: they give `quick` its 98 steps."""
    folder = tmp_path_factory.mktemp("few")
    with zipfile.ZipFile(photos / "cifar_cats_5000.zip") as archive:
        images = sorted(n for n in archive.namelist() if n.lower().endswith((".png", ".jpg")))
        archive.extractall(folder, images[:700])
    return folder


@pytest.mark.parametrize("loss", ["kornia_ssim", "ssim"])
def test_it_beats_the_mean_image_by_two_decibels(
    compose: Compose, few: Path, tmp_path: Path, loss: str
) -> None:
    config = compose(
        "experiments=quick", "data=images", f"data.root={few}", "data.size=32", f"loss={loss}",
        "logger=none", "trainer.progress=false",
    )  # fmt: skip
    images = building.load(config)
    splits = building.splits_of(config, images)
    train, val = (images.images[chosen] / 255.0 for chosen in (splits.train, splits.val))
    squares = ((val - train.mean(axis=0)) ** 2).mean(axis=(1, 2, 3))
    of_the_mean_image = float(np.mean(-10 * np.log10(squares)))
    result = run_trial(config, tmp_path / "trial", in_sweep=True)
    assert result.metrics["val"]["psnr"] > of_the_mean_image + 2
