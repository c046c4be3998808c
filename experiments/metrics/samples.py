"""How close samples from the prior are to held-out images, as two sets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PROJECTIONS = 512
PATCH = 7
"""Side of the patches of `laplacian_swd`, pixels."""
_COARSEST = 16  # pixels; below it no further level of a pyramid
_PERIOD = 8  # pixels of the image, of which the patches' places are multiples
_PATCHES, _MOST_PATCHES = 2**14, 64  # at each level: of a set, and of an image
_PATCH_PROJECTIONS = 64
_AT_ONCE = 128  # images that are held as floats, or as pyramids
_BLOCK = 2**24  # values of the directions held at once, 64 MiB
_LEAST_SPREAD = 1e-6  # of a level in which the real images have nothing


def sliced_wasserstein(
    first: Tensor,
    second: Tensor,
    *,
    projections: int = PROJECTIONS,
    seed: int = 0,
    order: int = 2,
) -> float:
    """Sliced Wasserstein distance of two sets of images, (N, C, H, W) and (M, C, H, W).

    `(mean over random directions of W_p(projected sets)^p)^(1/p)` with p = `order`: Rabin, Peyre,
    Delon and Bernot 2011, "Wasserstein barycenter and its application to texture mixing";
    Bonneel, Rabin, Peyre and Pfister 2015, "Sliced and Radon Wasserstein barycenters of
    measures", definition 7. Directions are of length 1 and uniform, so that the root mean square
    of a projected difference is the root mean square difference per pixel: at order 2 a set
    shifted by s in every pixel is s away, whatever the images' size.

    Args:
        first: images in [0, 1], or uint8.
        second: images in [0, 1], or uint8, of the same shape, not necessarily as many.
        projections: number of directions.
        seed: of the directions; two distances compare only under the same seed and shape.
        order: 1 or 2.

    Raises:
        ValueError: the images differ in shape, a set is empty, or an option is out of range.
    """
    _check(first, second, projections, order)
    return _sliced(first.detach(), second.detach(), projections=projections, seed=seed, order=order)


def laplacian_swd(
    samples: Tensor,
    real: Tensor,
    *,
    patches: int = _PATCHES,
    projections: int = _PATCH_PROJECTIONS,
    seed: int = 0,
) -> float:
    """Sliced Wasserstein distance of patches of Laplacian pyramids: it sees blur and noise.

    Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and
    variation", section 5. Each level of the pyramid (Burt and Adelson 1983, "The Laplacian pyramid
    as a compact image code") has one octave of spatial frequencies, from the finest down to images
    of 16 pixels a side. Patches of 7x7 pixels are drawn from each, and the distance of order 1 of
    the two sets of patches is averaged over the levels: a level that a set has too little of, such
    as the finest one of blurred images, counts as much as the coarse one with most of the energy.

    Two things differ from there. Patches are normalised by the channels' mean and standard
    deviation in the real images, not each set by its own, which would take away what blur does to a
    level; so the two sets are not to be swapped. And their places are multiples of 8 pixels of an
    image: a pattern of that period, as decoders repeat, is the same in all of them and shows.

    A value of 0.8 says that the samples lack what the real images have in each octave.

    Args:
        samples: images (N, C, H, W) in [0, 1], or uint8.
        real: images (M, C, H, W) in [0, 1], or uint8, of the same shape, not necessarily as many.
        patches: at most so many are drawn from each set at each level, of all images alike; of an
            image, 64 at most.
        projections: number of directions.
        seed: of the patches' places and the directions; two distances compare only under the same
            seed, shape and numbers of images: a set is farther from another the fewer they are.

    Raises:
        ValueError: the images differ in shape or are smaller than a patch, a set is empty, or an
            option is out of range.
    """
    _check(samples, real, projections, order=1)
    if min(real.shape[-2:]) < PATCH:
        raise ValueError(
            f"`laplacian_swd` needs images of {PATCH} pixels or more a side, "
            f"but got {real.shape[-2]}x{real.shape[-1]}"
        )
    if patches < 1:
        raise ValueError(f"`patches` must be at least 1, but got {patches}")
    sets = [_levels(images.detach(), patches, seed) for images in (samples, real)]
    found = []
    for drawn, wanted in zip(*sets, strict=True):
        mean, spread = wanted.mean((0, 2, 3)), wanted.std((0, 2, 3)).clamp_min(_LEAST_SPREAD)
        normalised = [
            (each - mean[:, None, None]) / spread[:, None, None] for each in (drawn, wanted)
        ]
        found.append(_sliced(*normalised, projections=projections, seed=seed, order=1))
    return sum(found) / len(found)


def _levels(images: Tensor, patches: int, seed: int) -> list[Tensor]:
    """Patches of each level of the images' pyramids, each (K, C, PATCH, PATCH), K <= `patches`."""
    step = -(-len(images) // patches)
    images = images[::step]
    each = min(_MOST_PATCHES, -(-patches // len(images)))
    generator = torch.Generator().manual_seed(seed)
    parts = [
        [
            _patches(level, each, max(1, _PERIOD >> number), generator)
            for number, level in enumerate(_pyramid(_in_unit(part)))
        ]
        for part in images.split(_AT_ONCE)
    ]
    return [torch.cat(level)[:patches] for level in zip(*parts, strict=True)]


def _pyramid(images: Tensor) -> list[Tensor]:
    """What each halving of the images takes away, and what is left in the end."""
    levels = []
    while min(images.shape[-2:]) >= 2 * _COARSEST:
        half = _halved(images)
        levels.append(images - F.interpolate(half, size=images.shape[-2:], mode="bilinear"))
        images = half
    return [*levels, images]


def _halved(images: Tensor) -> Tensor:
    """Half as large, after the binomial filter (1, 3, 3, 1) / 8 along rows and columns."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=images.device) / 8
    count, channels = images.shape[:2]
    padded = F.pad(images.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="reflect")
    half = F.conv2d(padded, (taps[:, None] * taps)[None, None], stride=2)
    halves: Tensor = half.unflatten(0, (count, channels))
    return halves[:, :, 0]


def _patches(images: Tensor, count: int, step: int, generator: torch.Generator) -> Tensor:
    """So many of each image (N, C, H, W), at places of its own: (N * count, C, PATCH, PATCH)."""
    rows, columns = (
        torch.randint((side - PATCH) // step + 1, (len(images), count, 1), generator=generator)
        * step
        + torch.arange(PATCH)
        for side in images.shape[-2:]
    )
    each = torch.arange(len(images))[:, None, None, None]
    chosen = images.permute(0, 2, 3, 1)[each, rows[..., :, None], columns[..., None, :]]
    return chosen.flatten(0, 1).permute(0, 3, 1, 2)


def _sliced(first: Tensor, second: Tensor, *, projections: int, seed: int, order: int) -> float:
    """Sliced Wasserstein distance of images (N, C, H, W) and (M, C, H, W)."""
    values = first[0].numel()
    generator = torch.Generator().manual_seed(seed)
    total, at_once = 0.0, max(1, _BLOCK // max(values, len(first), len(second)))
    for start in range(0, projections, at_once):
        count = min(at_once, projections - start)
        directions = torch.randn(count, values, generator=generator)
        directions = (directions / directions.norm(dim=1, keepdim=True)).to(first.device)
        projected = [_sorted(_projected(images, directions)) for images in (first, second)]
        total += float(_wasserstein_power(*projected, order=order).sum())
    return float((total / projections) ** (1 / order))


def _projected(images: Tensor, directions: Tensor) -> Tensor:
    """Images (N, C, H, W) on directions (P, D): (P, N); few of them are floats at a time."""
    parts = images.split(_AT_ONCE)
    return torch.cat([directions @ _in_unit(part).flatten(1).T for part in parts], dim=1)


def _in_unit(images: Tensor) -> Tensor:
    """As float32, uint8 images in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _sorted(values: Tensor) -> Tensor:
    """Each row; on a CPU by NumPy, which takes a tenth of the time."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def _wasserstein_power(first: Tensor, second: Tensor, *, order: int) -> Tensor:
    """W_p^p of sorted samples (P, N) and (P, M), for each row: (P,), float64.

    Exact for any N and M: the quantile functions are steps, compared on the union of their edges.
    """
    n, m = first.shape[1], second.shape[1]
    steps = [torch.arange(1, count + 1, dtype=torch.float64) / count for count in (n, m)]
    edges = torch.cat(steps).sort().values
    widths = torch.diff(edges, prepend=torch.zeros(1, dtype=torch.float64))
    middles = edges - widths / 2
    places = [(middles * count).long().clamp(max=count - 1).to(first.device) for count in (n, m)]
    gaps = first[:, places[0]] - second[:, places[1]]
    return gaps.double().abs() ** order @ widths.to(first.device)


def _check(first: Tensor, second: Tensor, projections: int, order: int) -> None:
    if first.ndim != 4 or first.shape[1:] != second.shape[1:] or not len(first) or not len(second):
        raise ValueError(
            "both sets must hold images of one shape, (N, C, H, W) and (M, C, H, W), "
            f"but got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if not all(s.is_floating_point() or s.dtype == torch.uint8 for s in (first, second)):
        raise ValueError(
            f"both sets must be floats in [0, 1] or uint8, but got {first.dtype} and {second.dtype}"
        )
    if projections < 1:
        raise ValueError(f"`projections` must be at least 1, but got {projections}")
    if order not in (1, 2):
        raise ValueError(f"`order` must be 1 or 2, but got {order}")
