"""A set of images of one shape, from whatever source."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Skipped:
    """An image that is not among the images, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What a person must know of how images were made, each time that they are used.

    Attributes:
        text: a sentence, without the name of the source.
        is_warning: whether something may be wrong.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class ImageSet:
    """Images of one shape and where each came from.

    Attributes:
        images: (N, C, H, W), uint8, memory-mapped and read-only.
        names: N names, unique, printable.
        digests: (N,), uint64, hashes of the pixels; equal for exact duplicates.
        fingerprint: of the content and the settings, hexadecimal.
        source: what the user named, "cats" for the drawn ones.
        skipped: images that could not be used, with the reason.
        others: how many files that are no images lay beside them, by suffix.
        remarks: of how they were made.
        factors: for drawn images, what each was drawn from, (N, ...), else None.

    Raises:
        ValueError: the images are no such array, or names or digests are not as many.
    """

    images: NDArray[np.uint8]
    names: list[str]
    digests: NDArray[np.uint64]
    fingerprint: str
    source: str
    skipped: list[Skipped] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    factors: dict[str, NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        images = self.images
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            is_array = isinstance(images, np.ndarray)
            got = f"{images.dtype} {images.shape}" if is_array else type(images).__name__
            raise ValueError(
                f"images must be an array (N, C, H, W) of uint8, but got {got}; scale floats in "
                "[0, 1] by 255 and round them"
            )
        if not len(images) == len(self.names) == len(self.digests):
            raise ValueError(
                "images must have as many names and digests, but got "
                f"{len(images)}, {len(self.names)} and {len(self.digests)}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width
