"""Photos in requests, refused before they can cost anything."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from experiments.data.decoding.decode import FORMATS, BadImageError, tolerantly
from serving.model.checkpoints import Model
from serving.model.photos import prepared


def decoded(data: bytes, model: Model, max_pixels: int) -> Tensor:
    """The image (C, H, W), uint8, of an uploaded photo.

    Raises:
        BadImageError: it is no image, broken, or its header declares more than `max_pixels`.
    """
    pixels = tolerantly(_declared, data)
    if pixels > max_pixels:
        raise BadImageError(f"it has {pixels:,} pixels, and {max_pixels:,} are allowed")
    return prepared(data, model)


def _declared(data: bytes) -> int:
    """How many pixels the header says there are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.width * image.height
    except UnidentifiedImageError as error:
        raise BadImageError("not a JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF image") from error
    except Exception as error:  # Pillow's readers answer broken data with any exception at all
        raise BadImageError("its header is broken") from error
