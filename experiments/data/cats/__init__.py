"""The embedded data set: drawn cat faces, a function of seed, index and size alone.

Every face is drawn from a few factors (`draw_factors`) that are kept beside the images, so that
an analysis can ask which latent unit follows which factor. Shapes are signed distances in the
face's own coordinates, turned into coverage over one pixel, which anti-aliases at any size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from experiments.data.cats import face, fur, scene
from experiments.data.cats.canvas import Canvas, Factors
from experiments.data.cats.factors import ACCESSORIES, BACKGROUNDS, CHUNK, COATS, EYES, draw_factors
from experiments.data.parallel import in_order

__all__ = [
    "ACCESSORIES", "BACKGROUNDS", "CHUNK", "COATS", "EYES", "VERSION", "draw_cats", "draw_factors",
    "render",
]  # fmt: skip

VERSION = 2
"""Raised when the same seed draws other images."""

_BLOCK_PIXELS = 2**16  # drawn at once: what fits into the cache of a core


def draw_cats(
    count: int, *, seed: int, size: int, workers: int | None = None
) -> Iterator[tuple[NDArray[np.uint8], Factors]]:
    """Draw `count` RGB faces of `size` pixels a side, some at a time, in order.

    Image i depends on the seed, the size and i alone, not on `count` or `workers`.

    Yields:
        Images (n, 3, size, size), uint8, and their factors (see `draw_factors`), (n, ...).
    """
    chunks = range(-(-count // CHUNK))
    drawn = in_order(lambda chunk: _draw_chunk(seed, chunk, size), chunks, workers)
    for chunk, (images, factors) in zip(chunks, drawn, strict=True):
        n = min(CHUNK, count - chunk * CHUNK)
        yield images[:n], {name: values[:n] for name, values in factors.items()}


def render(factors: Factors, size: int) -> NDArray[np.uint8]:
    """Draw the faces of `factors`, each (n, ...): (n, 3, size, size), uint8."""
    canvas = Canvas.blank(factors, size)
    scene.background(canvas)
    scene.body(canvas, fur.body_fur(canvas))
    face.ears(canvas)
    scene.accessory(canvas)
    face.head(canvas)
    face.muzzle(canvas)
    face.eyes(canvas)
    face.whiskers(canvas)
    return canvas.pixels()


def _draw_chunk(seed: int, chunk: int, size: int) -> tuple[NDArray[np.uint8], Factors]:
    factors = draw_factors(seed, chunk)
    block = max(1, min(CHUNK, _BLOCK_PIXELS // size**2))
    images = [
        render({name: values[i : i + block] for name, values in factors.items()}, size)
        for i in range(0, CHUNK, block)
    ]
    return np.concatenate(images), factors
