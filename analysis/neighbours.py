"""Which images of a set are nearest to others, to see whether a model repeats what it has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1024


def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For each image, the nearest one among others, by the root mean squared error of pixels.

    Args:
        images: uint8 (N, C, H, W).
        among: uint8 (M, C, H, W), M >= 1.

    Returns:
        Indices into `among`, (N,), and the errors, (N,), of pixels in [0, 1].

    Raises:
        ValueError: the two hold images of different shapes, or one of them none.
    """
    import torch

    if images.shape[1:] != among.shape[1:] or not len(images) or not len(among):
        raise ValueError(
            "images and those to search among must have one shape (N, C, H, W), N >= 1, "
            f"but got {tuple(images.shape)} and {tuple(among.shape)}"
        )
    flat = images.flatten(1).float() / 255
    found = []
    for chunk in among.split(_CHUNK):
        # Not by matrix products, whose rounding would hide exact copies.
        distances = torch.cdist(
            flat, chunk.flatten(1).float() / 255, compute_mode="donot_use_mm_for_euclid_dist"
        )
        found.append(distances.min(dim=1))
    errors, chunks = torch.stack([part.values for part in found]).min(dim=0)
    places = torch.stack([part.indices for part in found]).gather(0, chunks[None])[0]
    return places + chunks * _CHUNK, errors / flat.shape[1] ** 0.5
