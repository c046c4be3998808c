"""Images of more than 8 bits: which of their values is white.

Scanners and microscopes keep 10, 12 or 14 bits in files of 16, and some programs write 8 bits as
32-bit integers. A TIFF of another number of bits says so; else white is that of the fewest usual
bits that hold every value of the whole source, so that images keep their brightness beside each
other. (TIFF's MaxSampleValue and PNG's sBIT are statistics and no ranges.)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

FULL = 65535
"""White of 16 bits; larger integers are of unknown range."""

_BITS = (8, 10, 12, 14, 16)
_BITS_PER_SAMPLE = 258  # a tag of TIFF 6.0
_DEEP_COLOUR = re.compile(r"'?(RGB|LA|CMYK)[AXa]*;16")  # in what Pillow calls a file's pixels

log = logging.getLogger(__name__)


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels are integers of more than 8 bits."""
    return image.mode.startswith("I")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not loaded has 16 bits of each colour, of which Pillow reads 8."""
    tiles = getattr(image, "tile", ())
    return any(_DEEP_COLOUR.search(str(tile.args)) for tile in tiles)


def refuse_dark(white: int) -> None:
    """Refuse 16-bit colour of which Pillow's 8 bits hold next to nothing.

    Raises:
        ValueError: white of the source's images is that of 12 bits or fewer.
    """
    if white < 2**13:
        raise ValueError(
            f"16-bit colour that holds {white.bit_length()} bits, of which only the upper 8 are "
            "read, so that it is black or nearly so; scale its values to 16 bits"
        )


def declared(image: Image.Image) -> int | None:
    """White of a deep TIFF that has more than 8 bits, but neither 16 nor 32; None of others."""
    try:
        bits = int(np.max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 0)))
    except (TypeError, ValueError, OverflowError):  # a broken tag
        return None
    return 2**bits - 1 if 8 < bits < 16 else None


def white_of(most: float) -> int:
    """White of integers up to `most`: the largest value of the fewest usual bits."""
    return next((2**bits - 1 for bits in _BITS if most < 2**bits), FULL)


class CommonWhite:
    """White of the images of a source that do not say it: found when first asked for, and told.

    Args:
        root: of the source.
        largest: gives the largest value of each image.
    """

    def __init__(self, root: Path, largest: Callable[[], Iterable[int]]) -> None:
        self._root, self._largest = root, largest
        self._white: int | None = None
        self._lock = Lock()

    @property
    def known(self) -> int | None:
        """What was found; None where nobody asked, and where it is that of 16 bits."""
        return None if self._white == FULL else self._white

    def __call__(self) -> int:
        """The value, from any thread."""
        with self._lock:
            if self._white is None:
                most = 0
                for value in self._largest():
                    most = max(most, value)
                    if white_of(most) == FULL:  # whatever the others hold
                        break
                self._white = white_of(most)
                if self._white != FULL:
                    tell(self._root, most, self._white)
            return self._white


def tell(root: Path, most: float, white: int) -> None:
    """Say that white is another value than that of 16 bits."""
    log.info(
        "images of more than 8 bits in %s hold at most %.0f, so white is taken as %d (%d bits)",
        root, most, white, white.bit_length(),
    )  # fmt: skip
