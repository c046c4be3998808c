"""One encoded image, or one array, to uint8 pixels of the wanted shape."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from experiments.data.decoding import depth
from experiments.data.decoding.libtiff import silent_libtiff
from experiments.data.decoding.metadata import upright, without_metadata
from experiments.data.sources import kinds

pillow_heif.register_heif_opener()
# Named through their modules, since Pillow knows a format only once its module is imported.
FORMATS = (
    AvifImagePlugin.AvifImageFile.format,
    pillow_heif.HeifImageFile.format,
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

_LARGE = 2**25  # pixels; of images that are larger only one is decoded at a time
_one_large = Lock()
_DRAFT = 4  # a JPEG is decoded at an 8th to the full size, at least this many times the result's
_REDUCING_GAP = 3.0  # shrink by whole factors first, down to this many times the result's size


class BadImageError(Exception):
    """An image that cannot be used; the message is the reason."""


def decode(
    data: bytes,
    *,
    size: int,
    channels: int,
    fit: str,
    white: Callable[[int], int] | None = None,
    see: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Pixels (channels, size, size) of an encoded image.

    The first frame of an animation, upright as its EXIF orientation says; transparent parts on
    white; integers of more than 8 bits scaled to 8. Colours are taken as sRGB: embedded profiles
    are not used. Metadata that is broken or huge does no harm.

    Args:
        data: the file.
        size: side of the result, pixels.
        channels: 1 or 3.
        fit: "crop", "pad" or "squash".
        white: gives the value that is white where an image has more than 8 bits and does not say,
            from the bits of its file; None to go by the image alone.
        see: is told these bits and the image's largest value.

    Raises:
        BadImageError: it is no image of `FORMATS`, broken, or larger than `MAX_PIXELS`.
    """
    if not data:
        raise BadImageError("empty file")
    common = white or (lambda bits: depth.white_of(largest_value(data, bits)))

    def fitted(encoded: bytes) -> NDArray[np.uint8]:
        asked: list[int] = []

        def asking(bits: int) -> int:
            asked.append(bits)
            return common(bits)

        with _opened(encoded, len(data), draft=_DRAFT * size, white=asking) as (image, most):
            pixels = _fitted(_scaled(upright(image), most), size, channels, fit)
            if asked and see is not None:
                see(asked[0], _largest(image))
            return pixels

    return tolerantly(fitted, data)


def largest_value(data: bytes, bits: int) -> int:
    """The largest value of an encoded image of so many bits, 16 or 32, that does not say its white.

    0 of others, and of what cannot be decoded.
    """

    def found(encoded: bytes) -> int:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            is_silent = depth.is_deep(image) and not depth.declared(image)
            if bits != depth.bits(image) or not (is_silent or depth.is_deep_colour(image)):
                return 0
        with _opened(encoded, len(data)) as (image, _):
            return _largest(image)

    try:
        return tolerantly(found, data)
    except Exception:  # noqa: BLE001 - decoders answer broken data with any; `decode` says so
        return 0


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


@contextmanager
def _opened(
    data: bytes,
    of_bytes: int,
    *,
    draft: int | None = None,
    white: Callable[[int], int] | None = None,
) -> Iterator[tuple[Image.Image, int | None]]:
    """An image that is loaded, of a JPEG `draft` pixels a side; and white of one of many bits."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse_huge(image.width * image.height, of_bytes)
            if draft is not None:
                image.draft(None, (draft, draft))
            most = None
            if white is not None and (depth.is_deep(image) or depth.is_deep_colour(image)):
                # Before the lock, as it may decode other images.
                most = depth.declared(image) or white(depth.bits(image))
                if depth.is_deep_colour(image):
                    depth.refuse_dark(most)
            with _one_large if image.width * image.height > _LARGE else nullcontext():
                image.load()
                yield image, most
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        if kinds.is_read("", data[: kinds.HEAD]):
            raise BadImageError("broken or cut short") from error
        raise BadImageError("not a JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF image") from error
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
        raise BadImageError(
            f"too large: {pixels:,} pixels declared in {size_bytes:,} bytes "
            f"(limit {MAX_PIXELS:,} pixels)"
        )


def _fitted(image: Image.Image, size: int, channels: int, fit: str) -> NDArray[np.uint8]:
    image = _in_mode(_opaque(image), "L" if channels == 1 else "RGB")
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


def _largest(image: Image.Image) -> int:
    """The largest value in a file of more than 8 bits; 0 where it is refused."""
    values = np.asarray(image)
    if not depth.is_deep(image):  # colour, of which the upper 8 bits are read
        return int(values.max()) * 256 + 255
    return int(values.max()) if _is_in_range(values) else 0


def _is_in_range(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() <= depth.FULL)


def _scaled(image: Image.Image, white: int | None) -> Image.Image:
    """Images of more bits, and of floats in [0, 1], as images of 8 bits; others unchanged."""
    if depth.is_deep(image):
        values = np.asarray(image)
        if not _is_in_range(values):
            raise BadImageError(
                f"integers from {values.min()} to {values.max()}, of unknown range; those from 0 "
                f"to {depth.FULL} are read"
            )
        most = white or depth.FULL
        scaled = (values.astype(np.uint32).clip(max=most) * 255 + most // 2) // most
        return Image.fromarray(scaled.astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise BadImageError("floating-point pixels that are NaN or infinite; replace them")
        if values.min() < 0 or values.max() > 1:
            divided = "; divide them by 255" if values.min() >= 0 and values.max() <= 255 else ""
            raise BadImageError(
                f"floating-point pixels from {values.min():g} to {values.max():g}, but those in "
                f"[0, 1] are read{divided}"
            )
        return Image.fromarray(np.round(values * 255).astype(np.uint8))
    if white is not None and white != depth.FULL:  # 16-bit colour, of which the upper 8 are read
        return image.point(lambda value: value * depth.FULL / white)
    return image


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, _in_mode(image, "RGBA"))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image itself where it is in that mode, of which Pillow would make a copy."""
    return image if image.mode == mode else image.convert(mode)
