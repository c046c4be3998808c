"""One encoded image, or one array, to uint8 pixels of the wanted shape."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from experiments.data.libtiff import silent_libtiff
from experiments.data.metadata import upright, without_metadata

# Named through their modules, since Pillow knows a format only once its module is imported.
FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    GifImagePlugin.GifImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
)
MAX_PIXELS = 178_956_970
"""A larger image is not decoded: above it Pillow, at its defaults, sees an attack."""

T = TypeVar("T")

_BOMB_RATIO = 100  # pixels a byte: photos have about 1 to 20
_LARGE = 2**25  # pixels; of images that are larger only one is decoded at a time
_one_large = Lock()
_DRAFT = 4  # a JPEG is decoded at an 8th to the full size, at least this many times the result's
_REDUCING_GAP = 3.0  # shrink by whole factors first, down to this many times the result's size


class BadImageError(Exception):
    """An image that cannot be used; the message is the reason."""


class BombError(Exception):
    """A file that would swell to an absurd size; the message says how."""


def decode(data: bytes, *, size: int, channels: int, fit: str) -> NDArray[np.uint8]:
    """Pixels (channels, size, size) of an encoded image.

    The first frame of an animation, upright as its EXIF orientation says; transparent parts on
    white; 16-bit values scaled to 8. Colours are taken as sRGB: embedded profiles are not used.
    Metadata that is broken or huge does no harm.

    Raises:
        BadImageError: it is no image of `FORMATS`, broken, or larger than `MAX_PIXELS`.
        BombError: it is larger than `MAX_PIXELS`, from very few bytes.
    """
    if not data:
        raise BadImageError("empty file")
    fitted = partial(_decoded, of_bytes=len(data), size=size, channels=channels, fit=fit)
    return tolerantly(fitted, data)


def tolerantly(work: Callable[[bytes], T], data: bytes) -> T:
    """What `work` makes of an encoded image, or of its pixels alone where the rest is in the way.

    Raises:
        BadImageError: as `work` raises it of the whole.
    """
    try:
        return work(data)
    except BadImageError as error:
        bare = without_metadata(data)
        if bare is None:
            raise
        try:
            return work(bare)
        except BadImageError:
            raise error from None


def _decoded(
    data: bytes, *, of_bytes: int, size: int, channels: int, fit: str
) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse_huge(image.width * image.height, of_bytes)
            image.draft(None, (_DRAFT * size, _DRAFT * size))
            with _one_large if image.width * image.height > _LARGE else nullcontext():
                image.load()
                return _fitted(upright(image), size, channels, fit)
    except (BadImageError, BombError):
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("not a JPEG, PNG, WebP, BMP, GIF or TIFF image") from error
    except Image.DecompressionBombError as error:
        declared = re.search(r"\((\d+) pixels\)", str(error))
        _refuse_huge(int(declared[1]) if declared else of_bytes * 1000, of_bytes)
        raise BadImageError(str(error)) from error
    except Exception as error:  # Pillow's decoders answer broken data with any exception at all
        raise BadImageError(str(error) or type(error).__name__) from error


def from_array(
    pixels: NDArray[np.uint8], *, size: int, channels: int, fit: str
) -> NDArray[np.uint8]:
    """Pixels (channels, size, size) of a uint8 image (H, W, 1, 3 or 4)."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return _fitted(image, size, channels, fit)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Pillow and libtiff say of odd files off the terminal while many are decoded."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), silent_libtiff():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _refuse_huge(pixels: int, size_bytes: int) -> None:
    if pixels > MAX_PIXELS:
        what = f"{pixels:,} pixels declared in {size_bytes:,} bytes (limit {MAX_PIXELS:,} pixels)"
        if pixels > _BOMB_RATIO * size_bytes:
            raise BombError(what)
        raise BadImageError(f"too large: {what}")


def _fitted(image: Image.Image, size: int, channels: int, fit: str) -> NDArray[np.uint8]:
    image = _opaque(_eight_bit(image)).convert("L" if channels == 1 else "RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if fit == "crop":
        left, top = (width - short) / 2, (height - short) / 2
        image = _resized(image, (size, size), (left, top, left + short, top + short))
    elif fit == "squash":
        image = _resized(image, (size, size), (0, 0, width, height))
    else:
        inner = (max(1, round(width / long * size)), max(1, round(height / long * size)))
        resized = _resized(image, inner, (0, 0, width, height))
        image = Image.new(image.mode, (size, size))
        image.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    if (*image.size, *box) == (*size, 0, 0, *size):
        return image
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Images of 16-bit integers, and of floats in [0, 1], as images of 8 bits; others unchanged."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError("32-bit integers beyond 16 bits, of unknown range")
        scaled = (values.astype(np.uint32) * 255 + 32767) // 65535
        return Image.fromarray(scaled.astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise BadImageError("floating-point pixels outside [0, 1]")
        return Image.fromarray(np.round(values * 255).astype(np.uint8))
    return image


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image)
