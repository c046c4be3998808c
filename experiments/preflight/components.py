"""The principal components of the images to train on, and what each means to a distance."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from losses.degree import measure
from losses.pixel import MSE

if TYPE_CHECKING:
    from losses.distance import Distance

_SAMPLE_VALUES = 2**23  # of the images whose components are found; but not fewer images than
_FEWEST, _MOST = 256, 1024
_SHOWN_VALUES = 2**20  # of the images that a distance compares; but not fewer images than
_FEWEST_SHOWN, _MOST_SHOWN = 16, 128
_SHRUNK_SIDE = 32  # pixels
_CHUNK = 128  # images held as floats at once
_CUTS = 12  # numbers of components at which a distance is measured
_SECONDS = 1.0  # after which it is measured at fewer
_TELLING = 0.05  # of the distance at the start, below which little but rounding is left


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of a sample of images.

    Attributes:
        images: some images of the sample (M, C, H, W), in [0, 1].
        mean: image of the sample (C, H, W).
        scores: (M, K), of the images on the components.
        components: (K, C, H, W), the first K, not normalised.
        eigenvalues: (K,), variance along each component, summed over the values of an image;
            descending.
        variance: of the images, summed over the values.
    """

    images: Tensor
    mean: Tensor
    scores: Tensor
    components: Tensor
    eigenvalues: NDArray[np.float64]
    variance: float


def principal_components(
    images: NDArray[np.uint8], indices: NDArray[np.int64], count: int
) -> PrincipalComponents:
    """The first `count` principal components of some of the images, or as many as there are.

    The components are those of some hundred images, found on copies shrunk to 32 pixels a side by
    a randomised singular value decomposition (Halko, Martinsson and Tropp 2011); their
    eigenvalues are measured on the images themselves, so that they can only be too small. Draws
    nothing from PyTorch's random stream.

    Args:
        images: (N, C, H, W), uint8.
        indices: of the images to train on.
        count: of components.
    """
    values = int(np.prod(images.shape[1:]))
    size = min(len(indices), max(_FEWEST, 2 * count, min(_MOST, _SAMPLE_VALUES // values)))
    chosen = np.random.default_rng(0).permutation(indices)[:size]
    sample = torch.from_numpy(np.ascontiguousarray(images[chosen]))
    left = _left_vectors(sample, min(count, size - 1, values))
    mean = torch.stack([_floats(part).sum(0) for part in sample.split(_CHUNK)]).sum(0) / size
    components, variance = torch.zeros(left.shape[1], values), 0.0
    for part, vectors in zip(sample.split(_CHUNK), left.split(_CHUNK), strict=True):
        centred = (_floats(part) - mean).flatten(1)
        components += vectors.T @ centred
        variance += float(centred.square().sum()) / size
    eigenvalues = components.double().square().sum(1) / size
    order = eigenvalues.argsort(descending=True)
    shown = max(_FEWEST_SHOWN, min(_MOST_SHOWN, _SHOWN_VALUES // values))
    return PrincipalComponents(
        images=_floats(sample[:shown]),
        mean=mean,
        scores=left[:shown, order],
        components=components[order].unflatten(1, mean.shape),
        eigenvalues=eigenvalues[order].numpy(),
        variance=variance,
    )


class Explained(NamedTuple):
    """What principal components mean to a distance."""

    by_component: NDArray[np.float64]
    """By how much each component lowers it, (K,)."""
    start: float
    """The mean distance of the mean image."""
    degree: float
    """Of the distance (see `losses.degree`), if it has to be measured with all K components or, of
    few images, as many as leave something to measure."""


@torch.no_grad()
def explained(distance: Distance, found: PrincipalComponents, count: int) -> Explained:
    """By how much each of the first `count` components lowers a distance, and where it starts.

    For the squared error these are the eigenvalues, per value. Any other distance is measured
    between images and what their first 1, 2, 3, 5, ... components make of them; components
    between two measurements share what lies between them.

    Returns:
        Of `count` components, or as many as there are.

    Raises:
        ValueError: the distance fails.
    """
    values = found.mean.numel()
    count = min(count, len(found.eigenvalues))
    if isinstance(distance, MSE):
        return Explained(found.eigenvalues[:count] / values, found.variance / values, 2.0)
    shown = told = found.mean.expand_as(found.images)
    started = time.monotonic()
    measured = [float(distance(shown, found.images).mean())]
    affordable = int(_SECONDS / max(time.monotonic() - started, 1e-9))
    cuts = np.geomspace(1, count, max(3, min(_CUTS, affordable))).round().astype(int)
    cuts = np.unique(np.concatenate([[0], cuts]))
    for start, end in pairwise(cuts):
        added = found.scores[:, start:end] @ found.components[start:end].flatten(1)
        shown = shown + added.view_as(shown)
        measured.append(float(distance(shown.clamp(0, 1), found.images).mean()))
        if measured[-1] > _TELLING * measured[0]:
            told = shown
    falling = np.minimum.accumulate(np.array(measured))
    widths = np.diff(cuts)
    degree = distance.degree
    if degree is None:
        degree = float(measure(distance, told.clamp(0, 1), found.images).degree)
    return Explained(np.repeat(-np.diff(falling) / widths, widths), measured[0], degree)


def _left_vectors(sample: Tensor, count: int) -> Tensor:
    """Left singular vectors (N, count) of the centred, shrunk images."""
    shrunk = torch.cat([_shrunk(_floats(part)) for part in sample.split(_CHUNK)])
    shrunk = shrunk - shrunk.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vectors, _, _ = torch.svd_lowrank(shrunk, q=min(count + 8, *shrunk.shape), niter=2)
    return vectors[:, :count]


def _shrunk(images: Tensor) -> Tensor:
    """Images (N, C, H, W) to vectors, of at most 32 pixels a side."""
    height, width = (min(_SHRUNK_SIDE, side) for side in images.shape[-2:])
    return adaptive_avg_pool2d(images, (height, width)).flatten(1)


def _floats(images: Tensor) -> Tensor:
    return images.float() / 255
