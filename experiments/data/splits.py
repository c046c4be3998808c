"""Training, validation and test splits by the hash of each image's content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.errors import UserError

_LEAST = 2  # images in a split: a variance needs two


@dataclass(frozen=True)
class Splits:
    """Indices into the images, ascending, of each split."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def split(
    digests: NDArray[np.uint64], *, val_fraction: float, test_fraction: float, seed: int = 0
) -> Splits:
    """Put each image into a split by its own digest and the seed alone.

    So a split stays as it is when other images are added, and exact duplicates never straddle
    two splits. Fractions are those of the expectation.

    Raises:
        UserError: the fractions are out of range, or a split would have fewer than 2 images.
    """
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"`data.{name}` must be between 0 and 1, but got {fraction}")
    if val_fraction + test_fraction >= 1:
        raise UserError(
            "`data.val_fraction` and `data.test_fraction` must leave images to train on, "
            f"but their sum is {val_fraction + test_fraction}"
        )
    position = _uniform(digests, seed)
    test = position < test_fraction
    val = ~test & (position < test_fraction + val_fraction)
    splits = Splits(*(np.flatnonzero(chosen) for chosen in (~test & ~val, val, test)))
    for name in ("train", "val", "test"):
        found = len(getattr(splits, name))
        if found < _LEAST:
            raise UserError(
                f"each split needs {_LEAST} images or more, but of {len(digests)} images "
                f"({len(np.unique(digests))} different ones) {found} fell to the {name} split; "
                "add images, or raise `data.val_fraction` or `data.test_fraction`"
            )
    return splits


def _uniform(digests: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Digests to [0, 1), differently for each seed: the finaliser of SplitMix64 (Steele 2014)."""
    with np.errstate(over="ignore"):
        z = digests.astype(np.uint64) + np.uint64(seed % 2**64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) / float(2**53)
