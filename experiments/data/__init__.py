"""Images to train on: the embedded cats or the user's own, cached, split and batched.

Importing this loads neither torch nor Pillow nor Kornia: they come with the names that use them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments.data.imageset import ImageSet, Skipped
from experiments.data.loading import load_cats, load_images
from experiments.data.splits import Splits, split

if TYPE_CHECKING:
    from experiments.data.augment import Augment
    from experiments.data.batches import Batches, to_float

__all__ = [
    "Augment", "Batches", "ImageSet", "Skipped", "Splits", "load_cats", "load_images",
    "split", "to_float",
]  # fmt: skip

_LAZY = {
    "Augment": "experiments.data.augment",
    "Batches": "experiments.data.batches",
    "to_float": "experiments.data.batches",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
