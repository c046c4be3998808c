"""Grids of images as one picture, and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.record.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

Picture = NDArray[np.uint8]
"""(H, W, 3)."""

PADDING = 2
"""Pixels between two images, before enlargement."""
_PAPER = 255
_MOST_COLUMNS = 8
_LEAST_WIDTH = 500


def grid(
    images: NDArray[Any] | Tensor, *, columns: int = _MOST_COLUMNS, padding: int = PADDING
) -> Picture:
    """Lay out images (N, C, H, W) in rows of `columns`, on white.

    uint8, or floats, which are clipped to [0, 1]; one channel becomes grey. A picture less than
    500 pixels wide is enlarged by the least whole factor that makes it so, pixel by pixel.

    Raises:
        ValueError: the images are not (N, 1 or 3, H, W) with N >= 1, or not finite; or an option
            is out of range.
    """
    pixels = to_uint8(images)
    return _enlarge(_sheet(pixels, min(columns, len(pixels)), padding))


def reconstruction_grid(
    x: NDArray[Any] | Tensor,
    x_hat: NDArray[Any] | Tensor,
    *,
    columns: int = _MOST_COLUMNS,
    padding: int = PADDING,
) -> Picture:
    """Images (N, C, H, W) above their reconstructions, in pairs of rows of `columns`.

    Two pairs are further apart than a pair's two rows. The rest is as in `grid`.

    Raises:
        ValueError: as `grid` does, or the two differ in shape.
    """
    above, below = to_uint8(x), to_uint8(x_hat)
    if above.shape != below.shape:
        raise ValueError(
            "images and reconstructions must have one shape, "
            f"but got {above.shape} and {below.shape}"
        )
    columns = min(columns, len(above))
    rows = []
    for start in range(0, len(above), max(columns, 1)):
        chunk = slice(start, start + columns)
        rows.append(_sheet(above[chunk], columns, padding))
        rows.append(_sheet(below[chunk], columns, padding)[padding:])
        rows.append(np.full_like(rows[-1][: 2 * padding], _PAPER))
    return _enlarge(np.concatenate(rows[:-1]))


def split_reconstruction_grid(picture: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images and their reconstructions, (N, 3, S, S) each, that `reconstruction_grid` laid out.

    Raises:
        ValueError: it is no such picture of square images in at most 8 columns.
    """
    for columns in range(_MOST_COLUMNS, 0, -1):
        for factor in range(1, -(-_LEAST_WIDTH // (columns * (1 + PADDING))) + 1):
            small = picture[::factor, ::factor]
            side, rest = divmod(small.shape[1] - PADDING - columns * PADDING, columns)
            between = 2 * (side + 2 * PADDING) + PADDING  # from one pair of rows to the next
            if rest or side < 1 or (small.shape[0] + 2 * PADDING) % between:
                continue
            pairs = _pairs(small, side, columns)
            again = reconstruction_grid(*pairs, columns=columns)
            if again.shape == picture.shape and (again == picture).all():
                return _without_blanks(*pairs)
    raise ValueError(f"a picture must be a grid of reconstructions, but got {picture.shape}")


def to_uint8(images: NDArray[Any] | Tensor) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in an array of 8 bits, rounded; floats are clipped to [0, 1] first.

    Raises:
        ValueError: they are not (N, 1 or 3, H, W) with N >= 1, or not finite.
    """
    if not isinstance(images, np.ndarray):
        images = images.detach().cpu()
        images = (images.float() if images.is_floating_point() else images).numpy()
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.size == 0:
        raise ValueError(f"a grid wants images (N, 1 or 3, H, W), but got {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"a grid wants uint8 or floats in [0, 1], but got {images.dtype}")
    if not np.isfinite(images).all():
        raise ValueError("a grid wants finite images, but got NaN or infinity")
    return (images.clip(0, 1) * 255).round().astype(np.uint8)


def save_png(picture: Picture, path: str | Path) -> None:
    """Write a picture (H, W, 3), whole or not at all.

    Raises:
        OSError: the directory is missing, read-only or full.
    """
    from PIL import Image

    with replacing(Path(path)) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def _sheet(images: NDArray[np.uint8], columns: int, padding: int) -> Picture:
    """The grid at its own size, with `padding` around and between the images."""
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1, but got {columns}")
    if padding < 0:
        raise ValueError(f"`padding` must be at least 0, but got {padding}")
    count, _, height, width = images.shape
    rows = -(-count // columns)
    cells = np.full((rows, columns, height + padding, width + padding, 3), _PAPER, dtype=np.uint8)
    for i, image in enumerate(images):
        cells[i // columns, i % columns, :height, :width] = image.transpose(1, 2, 0)
    sheet = cells.transpose(0, 2, 1, 3, 4).reshape(rows * (height + padding), -1, 3)
    return np.pad(sheet, ((padding, 0), (padding, 0), (0, 0)), constant_values=_PAPER)


def _pairs(small: Picture, side: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The cells of the upper and of the lower rows, (N, 3, side, side) each."""
    step = side + PADDING
    tops = range(PADDING, small.shape[0], 2 * step + 3 * PADDING)
    above, below = (
        np.stack(
            [
                small[top + down : top + down + side, left : left + side].transpose(2, 0, 1)
                for top in tops
                for left in range(PADDING, columns * step, step)
            ]
        )
        for down in (0, step)
    )
    return above, below


def _without_blanks(
    above: NDArray[np.uint8], below: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Without what fills the last row, of which the first is always an image."""
    is_image = ((above != _PAPER) | (below != _PAPER)).any(axis=(1, 2, 3))
    count = int(np.flatnonzero(is_image).max(initial=0)) + 1
    return above[:count], below[:count]


def _enlarge(picture: Picture) -> Picture:
    factor = -(-_LEAST_WIDTH // picture.shape[1])
    return np.ascontiguousarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))
