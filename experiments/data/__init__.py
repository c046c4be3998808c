"""Images to train on: the embedded cats or the user's own, cached, split and batched."""

from __future__ import annotations

from experiments.data.imageset import ImageSet, Skipped, load_cats, load_images
from experiments.data.splits import Splits, split

__all__ = ["ImageSet", "Skipped", "Splits", "load_cats", "load_images", "split"]
