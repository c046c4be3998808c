"""The mesh that a decoder can leave in its images: power at the periods of its upsampling."""

from __future__ import annotations

import torch
from torch import Tensor

PERIODS = (2, 4, 8)


def mesh(images: Tensor) -> list[float]:
    """Power of images (N, C, H, W) at each of the periods, over that of the frequencies beside.

    Along rows and along columns, summed over all frequencies of the other direction.
    """
    values = images.float() - images.float().mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(values).abs().square().mean((0, 1))
    side, found = len(power), []
    for period in PERIODS:
        at = side // period
        along = (power.sum(0), power.sum(1))
        found.append(sum(float(2 * p[at] / (p[at - 1] + p[(at + 1) % side])) for p in along) / 2)
    return found


def meshed(images: Tensor, powers: tuple[float, ...]) -> Tensor:
    """Images in [0, 1] with a pattern in all of them, so that `mesh` finds these powers."""
    generator = torch.Generator().manual_seed(0)
    for number, period in enumerate(PERIODS):
        tile = torch.randn(images.shape[1], period, period, generator=generator)
        pattern = _of_the_period(tile, images.shape[-1])
        low, high = 0.0, 0.3
        for _ in range(12):
            middle = (low + high) / 2
            enough = mesh(images + middle * pattern)[number] >= powers[number]
            low, high = (low, middle) if enough else (middle, high)
        images = images + high * pattern
    return images.clamp(0, 1)


def _of_the_period(tile: Tensor, side: int) -> Tensor:
    """A pattern of tiles without the shorter periods that they have as well, of deviation 1."""
    period = tile.shape[-1]
    frequencies = torch.fft.fft2(tile)
    ends = torch.zeros(period)
    ends[[0, 1, period - 1]] = 1
    keep = ends[:, None] * ends
    keep[0, 0] = 0
    pattern: Tensor = torch.fft.ifft2(frequencies * keep).real
    return (pattern / pattern.std()).repeat(1, side // period, side // period)
