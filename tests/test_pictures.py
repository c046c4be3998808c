"""Grids of images: where each pixel goes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from experiments.scoring.pictures import (
    grid,
    reconstruction_grid,
    save_png,
    split_reconstruction_grid,
    to_uint8,
)


def colours(count: int, side: int, channels: int = 3) -> NDArray[np.uint8]:
    """Images of one colour each, all different and none white."""
    shades = np.random.default_rng(0).permutation(250)[: count * channels].astype(np.uint8)
    return np.broadcast_to(shades.reshape(count, channels, 1, 1), (count, channels, side, side))


def cell(
    picture: NDArray[np.uint8], row: int, column: int, side: int, factor: int
) -> NDArray[np.uint8]:
    """The pixels where image (row, column) of a grid with padding 2 belongs."""
    top, left = ((2 + i * (side + 2)) * factor for i in (row, column))
    return picture[top : top + side * factor, left : left + side * factor]


def test_images_stand_in_reading_order_separated_by_white() -> None:
    images = colours(7, 100)
    picture = grid(images, columns=5)
    assert picture.shape == (2 * 102 + 2, 5 * 102 + 2, 3)
    for i, image in enumerate(images):
        assert (cell(picture, i // 5, i % 5, 100, 1) == image.transpose(1, 2, 0)).all()
    assert (cell(picture, 1, 2, 100, 1) == 255).all()  # the row is not full
    gaps = np.ones(picture.shape[:2], dtype=bool)
    for i in range(10):
        cell(gaps, i // 5, i % 5, 100, 1)[:] = False
    assert (picture[gaps] == 255).all()


@pytest.mark.parametrize(("side", "factor"), [(4, 10), (32, 2), (64, 1), (128, 1)])
def test_a_small_picture_is_enlarged_by_whole_pixels(side: int, factor: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 3, side, side), dtype=np.uint8)
    picture = grid(images, columns=8)
    width = 8 * (side + 2) + 2
    assert picture.shape == (width * factor, width * factor, 3)
    assert picture.shape[1] >= 500
    expected = images[9].transpose(1, 2, 0).repeat(factor, axis=0).repeat(factor, axis=1)
    assert (cell(picture, 1, 1, side, factor) == expected).all()


def test_one_image_is_not_lost_among_empty_columns() -> None:
    picture = grid(colours(1, 64), columns=8)
    assert picture.shape == (68 * 8, 68 * 8, 3)


def test_grey_becomes_equal_red_green_and_blue() -> None:
    picture = grid(colours(4, 64, channels=1), columns=2)
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()
    assert len(np.unique(picture)) == 5


def test_padding_is_an_option() -> None:
    images = colours(2, 300)
    assert grid(images, columns=2, padding=0).shape == (300, 600, 3)


def test_floats_are_clipped_and_rounded_to_8_bits() -> None:
    values = np.array([-0.5, 0, 0.4 / 255, 0.6 / 255, 0.5, 1, 1.7]).reshape(-1, 1, 1, 1)
    assert to_uint8(values).ravel().tolist() == [0, 0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_give_the_picture_of_their_arrays(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 2, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = (pixels * 255).byte() if dtype == torch.uint8 else pixels.to(dtype).requires_grad_()
    expected = grid((pixels * 255).byte().numpy(), columns=2)
    assert (grid(images, columns=2) == expected).all()


def test_reconstructions_stand_below_their_images() -> None:
    both = colours(20, 100)
    x, x_hat = both[:10], both[10:]
    picture = reconstruction_grid(x, x_hat, columns=8)
    pair, gap = 2 * 102 + 2, 4
    assert picture.shape == (2 * pair + gap, 8 * 102 + 2, 3)
    first, second = picture[:pair], picture[pair + gap :]
    assert (picture[pair : pair + gap] == 255).all()
    for i in range(10):
        half = (first, second)[i // 8]
        assert (cell(half, 0, i % 8, 100, 1) == x[i].transpose(1, 2, 0)).all()
        assert (cell(half, 1, i % 8, 100, 1) == x_hat[i].transpose(1, 2, 0)).all()


def test_three_reconstructions_take_three_columns() -> None:
    images = colours(3, 64)
    assert reconstruction_grid(images, images).shape == ((2 * 66 + 2) * 3, (3 * 66 + 2) * 3, 3)


def test_a_saved_picture_reads_back_the_same_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    picture = grid(colours(4, 16), columns=2)
    save_png(np.zeros_like(picture), path)
    save_png(picture, path)
    assert (np.asarray(Image.open(path)) == picture).all()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "samples.png"
    save_png(grid(colours(4, 16), columns=2), path)
    before = path.read_bytes()

    def full(self: Image.Image, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_png(grid(colours(1, 16)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"\(N, 1 or 3, H, W\), but got \(3, 8, 8\)"),
        (np.zeros((2, 4, 8, 8), np.uint8), r"but got \(2, 4, 8, 8\)"),
        (np.zeros((0, 3, 8, 8), np.uint8), r"but got \(0, 3, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.int64), "but got int64"),
        (np.full((2, 3, 8, 8), np.nan), "NaN"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(images)
    with pytest.raises(ValueError, match=message):
        reconstruction_grid(images, images)


def test_options_out_of_range_are_refused() -> None:
    images = colours(4, 8)
    for options, message in (
        ({"columns": 0}, "`columns` must be at least 1, but got 0"),
        ({"padding": -1}, "`padding` must be at least 0, but got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            grid(images, **options)
        with pytest.raises(ValueError, match=message):
            reconstruction_grid(images, images, **options)
    with pytest.raises(ValueError, match="one shape"):
        reconstruction_grid(images, images[:3])


@pytest.mark.parametrize("side", [4, 32, 64, 100])
@pytest.mark.parametrize("count", [1, 3, 8, 11, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_of_reconstructions_is_taken_apart_again(
    side: int, count: int, channels: int
) -> None:
    shape = (2, count, channels, side, side)
    x, x_hat = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    above, below = split_reconstruction_grid(reconstruction_grid(x, x_hat))
    assert (above == np.broadcast_to(x, above.shape)).all()
    assert (below == np.broadcast_to(x_hat, below.shape)).all()
    assert above.shape == (count, 3, side, side)


def test_another_picture_is_no_grid_of_reconstructions() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (138, 530, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="must be a grid of reconstructions"):
        split_reconstruction_grid(noise)
