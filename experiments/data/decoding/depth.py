"""Images of more than 8 bits: which of their values is white.

Scanners and microscopes keep 10, 12 or 14 bits in files of 16, and some programs write 8 bits as
32-bit integers. A TIFF of another number of bits says so; else white is that of the fewest usual
bits that hold every value of the source's files of 16 bits, or of 32, so that images keep their
brightness beside each other. (TIFF's MaxSampleValue and PNG's sBIT are statistics and no ranges.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from PIL import Image

from experiments.data.imageset import Remark

FULL = 65535
"""White of 16 bits; larger integers are of unknown range."""

DARK = 1 / 16
"""Share of white: what holds no more is black or nearly so."""

_BITS = (8, 10, 12, 14, 16)
_BITS_PER_SAMPLE = 258  # a tag of TIFF 6.0
_DEEP_COLOUR = re.compile(r"'?(RGB|LA|CMYK)[AXa]*;16")  # in what Pillow calls a file's pixels


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels are integers of more than 8 bits."""
    return image.mode.startswith("I")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not loaded has 16 bits of each colour, of which Pillow reads 8."""
    tiles = getattr(image, "tile", ())
    return any(_DEEP_COLOUR.search(str(tile.args)) for tile in tiles)


def bits(image: Image.Image) -> int:
    """How many bits the file of a deep image has for each value: 16 or 32."""
    return 32 if image.mode == "I" else 16


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


@dataclass
class _Seen:
    """What the images of a source hold whose files have equally many bits."""

    images: int = 0
    dark: int = 0
    most: int = 0
    name: str = ""


class CommonWhite:
    """White of the images of a source that do not say it, by the bits of their files.

    Found when it is first asked for, from any thread.

    Args:
        largest: gives the largest value of each image whose file has so many bits.
    """

    def __init__(self, largest: Callable[[int], Iterable[int]]) -> None:
        self._largest = largest
        self._whites: dict[int, int] = {}
        self._seen: dict[int, _Seen] = {}
        self._lock = Lock()

    @property
    def known(self) -> int | list[int] | None:
        """Those that were used: one, or of 16 and of 32 bits; None for that of 16 bits."""
        used = [self._whites[bits] for bits in sorted(self._seen)]
        if len(set(used)) > 1:
            return used
        return used[0] if used and used[0] != FULL else None

    def __call__(self, bits: int) -> int:
        """The value."""
        with self._lock:
            if bits not in self._whites:
                most = 0
                for value in self._largest(bits):
                    most = max(most, value)
                    if white_of(most) == FULL:  # whatever the others hold
                        break
                self._whites[bits] = white_of(most)
            return self._whites[bits]

    def see(self, name: str, bits: int, most: int) -> None:
        """Note the largest value of an image that was scaled."""
        with self._lock:
            seen = self._seen.setdefault(bits, _Seen())
            seen.images += 1
            seen.dark += most <= self._whites[bits] * DARK
            if most >= seen.most:
                seen.most, seen.name = most, name

    def remarks(self) -> list[Remark]:
        """Which value is white, where it is not that of 16 bits, or where it leaves little."""
        found = []
        for bits, seen in sorted(self._seen.items()):
            white = self._whites[bits]
            if white != FULL:
                found.append(remark(bits, seen.most, white))
            if seen.dark > seen.images / 2 and seen.most > white * DARK:
                text = (
                    f"{seen.dark} of {seen.images} images of {bits} bits are black or nearly so: "
                    f"white is taken as {white}, since {seen.name} holds {seen.most}; if that is a "
                    "defect, mend or remove the file, else scale the others"
                )
                found.append(Remark(text, is_warning=True))
        return found


def remark(bits: int, most: float, white: int) -> Remark:
    """That white is another value than that of 16 bits."""
    return Remark(
        f"images of {bits} bits hold at most {most:.0f}, so white is taken as {white} "
        f"({white.bit_length()} bits)"
    )
