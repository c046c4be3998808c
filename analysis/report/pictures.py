"""Small pictures of what trials reconstructed, for a page that must stay small."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

RECONSTRUCTIONS = "reconstructions.png"
_WIDTH = 268  # pixels
_MOST_BYTES = 2_000_000
"""Of all of them together, as text in the page."""


def thumbnails(trials: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """The reconstructions of trials as small WebP images in data URIs.

    Args:
        trials: names and directories, the most important first: where the bytes do not suffice
            for all, the last have none.
    """
    found: dict[str, str] = {}
    left = _MOST_BYTES
    for trial, directory in trials:
        if not isinstance(directory, str):
            continue
        uri = thumbnail(Path(directory) / RECONSTRUCTIONS)
        if uri is None:
            continue
        left -= len(uri)
        if left < 0:
            break
        found[trial] = uri
    return found


def thumbnail(path: Path) -> str | None:
    """A picture, at most 268 pixels wide, as a data URI; None if there is none or it is broken.

    A link is not followed: pages are passed on, and a sweep that somebody else has made could put
    a reader's own picture into one.
    """
    from PIL import Image, UnidentifiedImageError

    if path.is_symlink():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            height = max(1, round(picture.height * _WIDTH / picture.width))
            small = picture.convert("RGB").resize((_WIDTH, height), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
