"""Gaussian filtering of small images as two matrix products.

A separable filter is linear in the rows and in the columns, so the filtered image is `A X B^T`
with banded matrices that also hold the border's rule. For images of up to some hundred pixels a
side this is several times faster than a depthwise convolution, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix first needed in validation must serve in training, too
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
    filtered: Tensor = _Filter.apply(images, rows, columns)
    return filtered


class _Filter(torch.autograd.Function):
    """`rows @ images @ columns^T` and its adjoint, both in full precision."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        with _full_precision():
            return rows @ (images @ columns.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.saved_tensors
        return _Filter.apply(gradient, rows.mT, columns.mT), None, None


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep float32 products at float32, whatever `torch.set_float32_matmul_precision` allows.

    A variance is the small difference of two filtered squares: the rounding of TF32 or bfloat16
    is of the size of SSIM's constant of 9e-4.
    """
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def local_similarity(
    x_hat: Tensor, x: Tensor, window: int, sigma: float, border: str
) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps of SSIM at data range 1 (see `similarity`).

    Variances do not depend on the level, so each channel's mean is taken off first: the variance
    of a flat image is then 0, not the rounding of its squared level. The border is "valid" or
    "reflect"; with "zero" the weights do not sum to 1 and the level would matter.
    """
    level_hat, level = (image.detach().mean((2, 3), keepdim=True) for image in (x_hat, x))
    filtered = gaussian_filter(moments(x_hat - level_hat, x - level), window, sigma, border)
    _, contrast = similarity(filtered, 0.01**2, 0.03**2)
    mean_hat, mean = filtered[0] + level_hat, filtered[1] + level
    luminance = (2 * mean_hat * mean + 0.01**2) / (mean_hat.square() + mean.square() + 0.01**2)
    return luminance, contrast


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
