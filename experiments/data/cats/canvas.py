"""RGB images in the making, many at once, in coordinates fixed to each face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from experiments.data.cats.shapes import Array, Number

Factors = dict[str, NDArray[np.float32]]

MAX_SCALE = 0.70
"""Largest `scale` of a face. Windows fit it, whichever faces are drawn together."""


class Canvas:
    """A part of n square images, the same number of pixels in each.

    Attributes:
        factors: of each image, (n, 1, 1) for numbers and (n, 3, 1, 1) for colours.
        x, y: position in the image, [-1, 1], right and down.
        u, v: position in the face, upright, in units of about half of its width.
        rgb: (n, 3, height, width), float32, in [0, 1].
        pixel: side of a pixel in units of the face, (n, 1, 1).
    """

    def __init__(self, factors: Factors, x: Array, y: Array, rgb: Array, size: int) -> None:
        self.factors, self.x, self.y, self.rgb, self.size = factors, x, y, rgb, size
        f = factors
        cos, sin = np.cos(f["roll"]) / f["scale"], np.sin(f["roll"]) / f["scale"]
        dx, dy = x - f["x"], y - f["y"]
        self.u: Array = cos * dx + sin * dy
        self.v: Array = cos * dy - sin * dx
        self.pixel: Array = 2 / size / f["scale"]

    @classmethod
    def blank(cls, factors: Factors, size: int) -> Canvas:
        """Black images of `size` pixels a side, for factors (n,) and (n, 3)."""
        shaped = {
            name: values[:, None, None] if values.ndim == 1 else values[:, :, None, None]
            for name, values in factors.items()
        }
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        rgb = np.zeros((len(factors["x"]), 3, size, size), dtype=np.float32)
        return cls(shaped, axis[None, None, :], axis[None, :, None], rgb, size)

    @contextmanager
    def window(self, u: Number, v: Number, radius: float) -> Iterator[Canvas]:
        """The part within `radius` of (u, v), all in units of the face: small shapes cost less.

        What is painted there is put back when the block ends.
        """
        f, size = self.factors, self.size
        cos, sin = np.cos(f["roll"]) * f["scale"], np.sin(f["roll"]) * f["scale"]
        half = int(np.ceil(radius * MAX_SCALE * size / 2)) + 1
        side = min(size, 2 * half + 1)

        def first(centre: Array) -> NDArray[np.int64]:
            index = np.round((centre.reshape(-1) + 1) / 2 * size - 0.5).astype(np.int64)
            return np.clip(index - side // 2, 0, size - side)

        left, top = first(f["x"] + cos * u - sin * v), first(f["y"] + sin * u + cos * v)
        axis = (np.arange(side, dtype=np.float32) + 0.5) / size * 2 - 1
        x = axis[None, None, :] + (left * np.float32(2 / size))[:, None, None].astype(np.float32)
        y = axis[None, :, None] + (top * np.float32(2 / size))[:, None, None].astype(np.float32)
        # One slice an image: far quicker than one index for all of them.
        views = [
            image[:, i : i + side, j : j + side]
            for image, i, j in zip(self.rgb, top, left, strict=True)
        ]
        part = Canvas(f, x, y, np.stack(views), size)
        yield part
        for view, painted in zip(views, part.rgb, strict=True):
            view[:] = painted

    def cover(self, distance: Array, softness: Number = 0.0) -> Array:
        """How much of each pixel lies inside, from its signed distance: anti-aliased."""
        coverage = distance / -(self.pixel + softness)
        coverage += 0.5
        return np.clip(coverage, 0, 1, out=coverage)

    def paint(self, coverage: Array, colour: Array, opacity: Number = 1.0) -> None:
        """Lay a colour, (n or 1, 3, ...), over the pixels that are covered."""
        if not (isinstance(opacity, float) and opacity == 1.0):
            coverage = coverage * opacity
        layer = colour - self.rgb
        layer *= coverage[:, None]
        self.rgb += layer

    def pixels(self) -> NDArray[np.uint8]:
        """(n, 3, height, width), uint8."""
        rgb = np.clip(self.rgb, 0, 1)
        rgb *= 255
        return np.round(rgb, out=rgb).astype(np.uint8)
