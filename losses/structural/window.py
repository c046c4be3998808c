"""Gaussian filters of small images as products with banded matrices.

A separable filter is linear in the rows and in the columns, so the filtered image is `A X B^T`
with banded matrices that also hold the border's rule. Of each matrix only the blocks around the
band are multiplied: 32 outputs take 42 inputs under a window of 11, not a whole row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

_BLOCK = 32  # outputs; narrower blocks skip more of the matrix, but make for slow products
_NOTHING = 1e-12  # a tap below it changes no sum of taps that is 1, in float32


class Block(NamedTuple):
    """The part of a matrix that makes the outputs [start, stop) of the inputs [first, last)."""

    start: int
    stop: int
    first: int
    last: int
    taps: Tensor
    """(stop - start, last - first)"""


class Band(NamedTuple):
    """A banded matrix (outputs, side) in blocks that cover all outputs."""

    outputs: int
    blocks: tuple[Block, ...]


class RowFilter(NamedTuple):
    """A filter of the rows of images, or of their columns, and its adjoint."""

    matrix: Band
    adjoint: Band


def gaussian_matrix(side: int, window: int, sigma: float, border: str) -> Tensor:
    """Matrix (outputs, side), float64, that filters a row of `side` pixels.

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
        return matrix
    matrix = torch.zeros(side, side, dtype=torch.float64)
    for i in range(side):
        for offset, tap in zip(range(-radius, radius + 1), taps, strict=True):
            j = i + offset
            if border == "reflect":
                j = abs(j) if j < side else 2 * (side - 1) - j
            if 0 <= j < side:
                matrix[i, j] += tap
    return matrix


@lru_cache(maxsize=128)
@torch.inference_mode(False)  # a matrix first needed in validation must serve in training, too
def gaussian_filter(
    side: int, window: int, sigma: float, border: str, dtype: torch.dtype, device: torch.device
) -> RowFilter:
    """The filter of `gaussian_matrix`, ready for `filter_columns` and `filter_rows`."""
    matrix = gaussian_matrix(side, window, sigma, border)
    block = _BLOCK if device.type == "cpu" else side  # a GPU prefers one large product
    matrix = matrix.where(matrix >= _NOTHING, 0.0)
    return RowFilter(*(_band(m, block, dtype, device) for m in (matrix, matrix.mT)))


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def column_sums(
    side: int, window: int, sigma: float, border: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What each of `side` inputs counts for in the sum of all outputs of `gaussian_matrix`."""
    return gaussian_matrix(side, window, sigma, border).sum(0).to(device, dtype)


def _band(matrix: Tensor, block: int, dtype: torch.dtype, device: torch.device) -> Band:
    outputs = len(matrix)
    blocks = []
    for start in range(0, outputs, block):
        stop = min(start + block, outputs)
        used = matrix[start:stop].any(dim=0).nonzero().flatten()
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        taps = matrix[start:stop, first:last].to(device, dtype).contiguous()
        blocks.append(Block(start, stop, first, last, taps))
    return Band(outputs, tuple(blocks))


def filter_columns(images: Tensor, band: Band, out: Tensor) -> Tensor:
    """Filter along the last dimension: (..., W) to (..., outputs), contiguous."""
    inputs, outputs = images.view(-1, images.shape[-1]), out.view(-1, out.shape[-1])
    for block in band.blocks:
        part = outputs[:, block.start : block.stop]
        torch.mm(inputs[:, block.first : block.last], block.taps.mT, out=part)
    return out


def filter_rows(images: Tensor, block: Block, out: Tensor, *, add: bool = False) -> Tensor:
    """Filter along the last dimension but one: (..., H, W) to the block's outputs (..., h, W).

    Args:
        images: contiguous.
        block: of the band.
        out: contiguous.
        add: to what is in `out`.
    """
    inputs = images.flatten(0, -3)[:, block.first : block.last]
    taps, outputs = block.taps.expand(len(inputs), -1, -1), out.view(len(inputs), *out.shape[-2:])
    if add:
        outputs.baddbmm_(taps, inputs)
    else:
        torch.bmm(taps, inputs, out=outputs)
    return out


@contextmanager
def full_precision() -> Iterator[None]:
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
