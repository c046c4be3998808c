"""Gaussian filtering of small images as two matrix products.

A separable filter is linear in the rows and in the columns, so the filtered image is `A X B^T`
with banded matrices that also hold the border's rule. For images of up to some hundred pixels a
side this is several times faster than a depthwise convolution, forward and backward.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def gaussian_matrix(side: int, window: int, sigma: float, border: str) -> Tensor:
    """Matrix (outputs, side), float32, that filters a row of `side` pixels.

    Args:
        side: pixels in a row.
        window: odd number of taps.
        sigma: standard deviation of the Gaussian, pixels.
        border: "valid" (no output where the window leaves the row: side - window + 1 outputs),
            "reflect" or "zero" (side outputs).
    """
    radius = window // 2
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps /= taps.sum()
    if border == "valid":
        outputs = side - window + 1
        matrix = torch.zeros(outputs, side, dtype=torch.float64)
        for i in range(outputs):
            matrix[i, i : i + window] = taps
        return matrix.float()
    matrix = torch.zeros(side, side, dtype=torch.float64)
    for i in range(side):
        for offset, tap in zip(range(-radius, radius + 1), taps, strict=True):
            j = i + offset
            if border == "reflect":
                j = abs(j) if j < side else 2 * (side - 1) - j
            if 0 <= j < side:
                matrix[i, j] += tap
    return matrix.float()


def gaussian_filter(images: Tensor, window: int, sigma: float, border: str) -> Tensor:
    """Filter images (..., H, W), float32, over their last two dimensions."""
    height, width = images.shape[-2:]
    rows = gaussian_matrix(height, window, sigma, border).to(images.device)
    columns = gaussian_matrix(width, window, sigma, border).to(images.device)
    return rows @ images @ columns.T


def moments(x_hat: Tensor, x: Tensor) -> Tensor:
    """What the structural similarity filters: x_hat, x, x_hat^2 + x^2 and x_hat * x, stacked.

    Both (B, C, H, W); returns (4, B, C, H, W). The two squares are needed only in their sum.
    """
    return torch.stack([x_hat, x, x_hat.square() + x.square(), x_hat * x])


def similarity(filtered: Tensor, c1: float, c2: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps (Wang et al. 2004, eqs. 6 and 13 with C3 = C2 / 2).

    Args:
        filtered: the `moments`, filtered: (4, ...).
        c1: stabilises the luminance, (0.01 * data range)^2 in the paper.
        c2: stabilises contrast and structure, (0.03 * data range)^2 in the paper.
    """
    mean_hat, mean, squares, product = filtered
    mean_product = mean_hat * mean
    mean_squares = mean_hat.square() + mean.square()
    luminance = (2 * mean_product + c1) / (mean_squares + c1)
    contrast = (2 * (product - mean_product) + c2) / (squares - mean_squares + c2)
    return luminance, contrast
