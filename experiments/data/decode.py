"""One encoded image, or one array, to uint8 pixels of the wanted shape."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000
"""A larger image is taken for a decompression bomb."""

_SIXTEEN_BIT = 65535 / 255


class BadImageError(Exception):
    """An image that cannot be used; the message is the reason."""


def decode(data: bytes, *, size: int, channels: int, fit: str) -> NDArray[np.uint8]:
    """Pixels (channels, size, size) of an encoded image.

    The first frame of an animation, upright as its EXIF orientation says; transparency over
    white; 16-bit values scaled to 8.

    Raises:
        BadImageError: it is no image of `FORMATS`, broken, or larger than `MAX_PIXELS`.
    """
    if not data:
        raise BadImageError("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(f"{image.width}x{image.height} pixels, a decompression bomb")
            # A JPEG can be decoded at a half, a quarter or an eighth; twice the size is enough.
            image.draft(None, (2 * size, 2 * size))
            image.load()
            return _fitted(ImageOps.exif_transpose(image), size, channels, fit)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise BadImageError("a decompression bomb") from error
    # Pillow's decoders answer broken data with any of these.
    except (
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        IndexError,
        KeyError,
        ArithmeticError,
    ) as e:
        raise BadImageError(str(e) or type(e).__name__) from e
    except (EOFError, MemoryError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise BadImageError(f"{type(error).__name__}: {error}") from error


def from_array(
    pixels: NDArray[np.uint8], *, size: int, channels: int, fit: str
) -> NDArray[np.uint8]:
    """Pixels (channels, size, size) of a uint8 image (H, W, 1, 3 or 4)."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return _fitted(image, size, channels, fit)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings about odd files off the terminal while many are decoded."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _fitted(image: Image.Image, size: int, channels: int, fit: str) -> NDArray[np.uint8]:
    mode = "L" if channels == 1 else "RGB"
    image = _opaque(_eight_bit(image)).convert(mode)
    if image.size != (size, size):
        if fit == "crop":
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        elif fit == "pad":
            image = ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS)
        else:
            image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError("32-bit integers beyond 16 bits, of unknown range")
        return Image.fromarray(np.round(values / _SIXTEEN_BIT).astype(np.uint8))
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
