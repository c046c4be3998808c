"""Grids of images as one picture, and writing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""(H, W, 3)."""

_GAP = 2  # pixels between two images, before enlargement
_PAPER = 255
_LEAST_WIDTH = 640


def grid(images: NDArray[np.uint8], *, columns: int) -> Picture:
    """Lay out images (N, C, H, W), uint8, in rows of `columns`, enlarged so that one can see."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows, columns, height + _GAP, width + _GAP, 3), _PAPER, dtype=np.uint8)
    for i, image in enumerate(images):
        pixels = image.transpose(1, 2, 0)
        sheet[i // columns, i % columns, :height, :width] = pixels  # grey spreads to RGB
    picture = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (height + _GAP), -1, 3)
    picture = np.pad(
        picture[:-_GAP, :-_GAP], ((_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=_PAPER
    )
    factor = max(1, round(_LEAST_WIDTH / picture.shape[1]))
    return np.ascontiguousarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))


def reconstruction_grid(
    x: NDArray[np.uint8], x_hat: NDArray[np.uint8], *, columns: int = 8
) -> Picture:
    """Inputs above their outputs, both (N, C, H, W), uint8, in rows of `columns`."""
    pairs = []
    for start in range(0, len(x), columns):
        for images in (x, x_hat):
            row = images[start : start + columns]
            missing = columns - len(row)
            blank = np.full((missing, *row.shape[1:]), _PAPER, dtype=np.uint8)
            pairs.append(np.concatenate([row, blank]))
    return grid(np.concatenate(pairs), columns=columns)


def save_png(picture: Picture, path: Path) -> None:
    """Write a picture, whole or not at all."""
    from PIL import Image

    temporary = path.with_suffix(".png.part")
    Image.fromarray(picture).save(temporary, format="PNG")
    temporary.replace(path)
