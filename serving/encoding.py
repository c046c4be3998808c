"""Pictures as bytes: PNG, and animations."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.scoring.pictures import Picture

FAST = 1
"""zlib's level for pictures that somebody waits for."""
SMALL = 6
"""zlib's level for files that stay."""
_RUNS = 3  # zlib's Z_RLE
ANIMATIONS = ("gif", "webp")


def png(image: NDArray[np.uint8], level: int = FAST) -> bytes:
    """A picture (H, W, 3) or one image (C, H, W) as PNG."""
    if image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    # Noisy pixels hardly repeat: a search for more than runs costs time, and bytes at this level.
    how = {"compress_type": _RUNS} if level == FAST else {}
    pixels = np.ascontiguousarray(image)
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=level, **how)
    return buffer.getvalue()


def base64_png(image: NDArray[np.uint8]) -> str:
    """The PNG of a picture in base64, for JSON."""
    return base64.b64encode(png(image)).decode("ascii")


def animation(frames: Iterable[Picture], kind: str, milliseconds: int = 60) -> bytes:
    """Pictures (H, W, 3) of one shape as a GIF or WebP that goes there and back, for ever.

    Raises:
        ValueError: `kind` is neither "gif" nor "webp".
    """
    if kind not in ANIMATIONS:
        raise ValueError(f"an animation must be one of {', '.join(ANIMATIONS)}, but got {kind!r}")
    images = [
        # As Pillow would by itself, but each once, and one after the other.
        Image.fromarray(frame).quantize() if kind == "gif" else Image.fromarray(frame)
        for frame in frames
    ]
    loop = [*images, *images[-2:0:-1]]
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {"disposal": 1}
    buffer = io.BytesIO()
    loop[0].save(
        buffer,
        format=kind.upper(),
        save_all=True,
        append_images=loop[1:],
        duration=milliseconds,
        loop=0,
        **options,
    )
    return buffer.getvalue()
