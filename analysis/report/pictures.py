"""What models reconstructed, as pictures small enough for a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.scoring.pictures import split_reconstruction_grid

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

_NAME = "reconstructions.png"
_WIDTH = 268  # pixels of a thumbnail
_MOST_THUMBNAILS = 2_000_000  # bytes of all of them together, as text in the page
_MOST_SIDE_BY_SIDE = 1_500_000  # the same
_LOSSLESS = 100
_STEPS = (
    (16, 256, _LOSSLESS), (16, 256, 90), (16, 160, 75), (16, 96, 60), (8, 96, 60), (8, 64, 50),
    (4, 64, 40), (2, 48, 30),
)  # fmt: skip
"""Images of each level, the pixels of their sides and their quality; the first that fits counts."""


class Line(NamedTuple):
    """What the model of a level's trial made of the images (data URIs), and the PSNR of each."""

    name: str
    trial: str
    images: Sequence[str]
    scores: Sequence[str]


class SideBySide(NamedTuple):
    """The same held-out images (data URIs) by every level; which levels have none, and why."""

    originals: Sequence[str]
    lines: Sequence[Line]
    missing: Sequence[str]


def side_by_side(
    levels: Iterable[tuple[str, str, object]], most: int = _MOST_SIDE_BY_SIDE
) -> SideBySide:
    """The reconstructions that the trials of some levels left in their records.

    They are made smaller, and at last fewer, until they fit; some are always shown.

    Args:
        levels: the name of each, the trial that stands for it, and that trial's directory.
        most: bytes of all pictures together, as text in the page.
    """
    found: list[tuple[str, str, Pixels]] = []
    missing = []
    originals: Pixels | None = None
    for name, trial, directory in levels:
        try:
            x, x_hat = split_reconstruction_grid(np.asarray(_read(directory)))
        except ValueError:
            missing.append(f"{name}: the record of {trial} has no reconstructions")
            continue
        originals = x if originals is None else originals
        if np.array_equal(originals, x):
            found.append((name, trial, x_hat))
        else:
            missing.append(f"{name}: {trial} was validated on other images")
    if originals is None:
        return SideBySide((), (), missing)
    above, *rows = _fitting(np.stack([originals, *(made for _, _, made in found)]), most)
    lines = [
        Line(name, trial, row, _scores(originals, made)[: len(row)])
        for (name, trial, made), row in zip(found, rows, strict=True)
    ]
    return SideBySide(above, lines, missing)


def thumbnails(
    trials: Iterable[tuple[str, str | None]], most: int = _MOST_THUMBNAILS
) -> dict[str, str]:
    """The reconstructions of trials as small WebP images in data URIs.

    Args:
        trials: names and directories, the most important first: where the bytes do not suffice
            for all, the last have none.
        most: bytes of all of them together, at most 2 MB.
    """
    found: dict[str, str] = {}
    left = min(most, _MOST_THUMBNAILS)
    for trial, directory in trials:
        try:
            picture = _read(directory)
        except ValueError:
            continue
        height = max(1, round(picture.height * _WIDTH / picture.width))
        uri = _encoded(picture, (_WIDTH, height), 60)
        left -= len(uri)
        if left < 0:
            break
        found[trial] = uri
    return found


def _read(directory: object) -> Image:
    """The reconstructions of a trial.

    A link is not followed: pages are passed on, and a sweep that somebody else has made could put
    a reader's own picture into one.

    Raises:
        ValueError: there are none, or they are broken.
    """
    from PIL import Image

    if not isinstance(directory, str) or (path := Path(directory) / _NAME).is_symlink():
        raise ValueError(f"a picture must be a file in a record, but got a link or {directory!r}")
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture must be a PNG, but {path} could not be read") from error


def _fitting(images: Pixels, most: int) -> list[list[str]]:
    """Rows of images (K, N, 3, S, S) in data URIs, of the first of the steps that fits."""
    from PIL import Image

    encoded: list[list[str]] = []
    for count, side, quality in _STEPS:
        side = min(side, images.shape[-1])
        encoded = [
            [
                _encoded(Image.fromarray(image.transpose(1, 2, 0)), (side, side), quality)
                for image in row[:count]
            ]
            for row in images
        ]
        if sum(len(uri) for row in encoded for uri in row) <= most:
            break
    return encoded


def _encoded(picture: Image, size: tuple[int, int], quality: int) -> str:
    from PIL import Image

    small = picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=quality, lossless=quality == _LOSSLESS, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _scores(originals: Pixels, made: Pixels) -> list[str]:
    """The PSNR of each image (N, 3, S, S)."""
    error = ((originals.astype(float) - made) ** 2).mean(axis=(1, 2, 3))
    return [f"{10 * math.log10(255**2 / max(e, 1e-3)):.1f} dB" for e in error]
