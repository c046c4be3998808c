"""Training, validation and test splits by the hash of each image's content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.errors import UserError

_LEAST = 2  # images in a split: a variance needs two
_RISK = 0.01  # of a split below that, at the size that the message recommends


@dataclass(frozen=True)
class Splits:
    """Indices into the images, ascending, of each split."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def check_batch_size(batch_size: int, images: int) -> None:
    """Refuse batches that are larger than a split of so many images.

    Raises:
        UserError: they are.
    """
    if images < batch_size:
        raise UserError(
            f"`batch_size` must be at most the number of images to train on, {images}, "
            f"but got {batch_size}; lower it or add images"
        )


def split(
    digests: ArrayLike, *, val_fraction: float = 0.15, test_fraction: float = 0.15, seed: int = 0
) -> Splits:
    """Put each image into a split by its own digest and the seed alone.

    So an image stays in its split when others are added or taken away, and exact duplicates
    never straddle two splits. The fractions are those of the expectation: a split of n images
    out of N varies by about sqrt(n).

    Args:
        digests: (N,), uint64, of the images' pixels.
        val_fraction: expected share of the validation split, in (0, 1).
        test_fraction: of the test split.
        seed: another seed gives unrelated splits.

    Raises:
        UserError: the fractions are out of range, a split has fewer than 2 images, or the training
            split has one picture again and again.
    """
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"`data.{name}` must be above 0 and below 1, but got {fraction}")
    if val_fraction + test_fraction >= 1:
        raise UserError(
            "`data.val_fraction` and `data.test_fraction` must leave images to train on, "
            f"but their sum is {val_fraction + test_fraction}"
        )
    digests = np.asarray(digests, dtype=np.uint64)
    position = _uniform(digests, seed)
    test = position < test_fraction
    val = ~test & (position < test_fraction + val_fraction)
    splits = Splits(*(np.flatnonzero(chosen) for chosen in (~test & ~val, val, test)))
    least = min(len(splits.train), len(splits.val), len(splits.test))
    if least < _LEAST:
        needed = _enough(val_fraction, test_fraction)
        raise UserError(
            f"each split must have {_LEAST} images or more, but of {len(digests)} images "
            f"({len(np.unique(digests))} different ones) {len(splits.train)} fell to training, "
            f"{len(splits.val)} to validation and {len(splits.test)} to test; these fractions "
            f"need about {needed} different images: add some, or raise `data.val_fraction` or "
            "`data.test_fraction`"
        )
    if len(np.unique(digests[splits.train])) == 1:
        raise UserError(
            f"images to train on must differ, but all {len(splits.train)} of the training split "
            "are the same picture; add others, or choose other ones with `data.split_seed`"
        )
    return splits


def _uniform(digests: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Digests to [0, 1), differently for each seed: the finaliser of SplitMix64.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    z = digests + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) / float(2**53)


def _enough(val_fraction: float, test_fraction: float) -> int:
    """Images of which no split gets fewer than 2, but for a probability of `_RISK`."""
    shares = np.array([val_fraction, test_fraction, 1 - val_fraction - test_fraction])
    n = np.arange(2, 100_000)[:, None]
    risk = ((1 - shares) ** n + n * shares * (1 - shares) ** (n - 1)).sum(axis=1)
    return int(n[np.argmax(risk < _RISK), 0]) if risk[-1] < _RISK else 100_000
