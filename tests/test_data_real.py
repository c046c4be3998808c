"""The photos that the project is measured on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import resize

from experiments.data import load_images, split


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("VAESWEEP_DATA")
    if not folder:
        pytest.skip("VAESWEEP_DATA does not name the folder with cats_raw and cifar_cats_5000.zip")
    return Path(folder)


@pytest.mark.slow
def test_the_700_photos_load_and_split(real: Path, tmp_path: Path) -> None:
    photos = load_images(root=real / "cats_raw", cache_dir=tmp_path, progress=False)
    assert photos.images.shape == (700, 3, 64, 64)
    assert photos.skipped == []
    splits = split(photos.digests)
    assert abs(len(splits.val) - 105) < 4 * np.sqrt(105)
    assert abs(len(splits.test) - 105) < 4 * np.sqrt(105)
    for i in range(0, 700, 100):
        full = imread(real / "cats_raw" / photos.names[i])
        side = min(full.shape[:2])
        top, left = (full.shape[0] - side) // 2, (full.shape[1] - side) // 2
        square = full[top : top + side, left : left + side] / 255
        expected = resize(square, (64, 64, 3), order=3, anti_aliasing=True)
        ours = photos.images[i].transpose(1, 2, 0) / 255
        assert peak_signal_noise_ratio(expected, ours, data_range=1) > 25


@pytest.mark.slow
def test_the_zip_of_5000_cats_loads_as_it_is(real: Path, tmp_path: Path) -> None:
    cats = load_images(
        root=real / "cifar_cats_5000.zip", size=32, cache_dir=tmp_path, progress=False
    )
    assert cats.images.shape == (5000, 3, 32, 32)
    assert cats.skipped == []
    from io import BytesIO
    from zipfile import ZipFile

    with ZipFile(real / "cifar_cats_5000.zip") as archive:
        first = imread(BytesIO(archive.read(cats.names[0])))
    assert np.array_equal(cats.images[0], first.transpose(2, 0, 1))
