"""The mean structural similarity of images and its gradient, computed together.

Left to autograd, SSIM is some sixty passes over maps that no cache holds. Here a few images at a
time go through all of it, forward and backward, in buffers that are used again, and the gradient
is written out by hand. Of images a and b, F being the filter, a linear map, let

    m = F a    n = F b    q = F(a^2 + b^2)    r = F(a b)                                  (1)
    v = q - m^2 - n^2 + C2    c = (2 r - 2 m n + C2) / v    contrast and structure        (2)
    w = m^2 + n^2 + C1        l = (2 m n + C1) / w          luminance                     (3)

(Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
eqs. 6 and 13 with C3 = C2 / 2). The similarity of a pixel is s = l c. It depends on a by m, q and
r alone. From (2), dc/dr = 2 / v, dc/dq = -c / v and dc/dm = 2 (c m - n) / v; from (3),
dl/dm = 2 (n - l m) / w. So

    ds/dr = 2 l / v                                                                       (4)
    ds/dq = -l c / v                                                                      (5)
    ds/dm = 2 [(l / v) (c m - n) + (c / w) (n - l m)]                                     (6)

and since m, q and r are linear in a, a^2 and a b, with the adjoint F' of the filter,

    d(sum s)/da = F'[ds/dm] + 2 a F'[ds/dq] + b F'[ds/dr]                                 (7)

With several filters, s is the product of all their c and the l of the last. For each, l in (4) to
(6) becomes the product of all other factors, and c in the luminance's part of (6) that of all c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.structural.window import (
    RowFilter,
    filter_columns,
    filter_rows,
    full_precision,
    gaussian_filter,
)

C1 = 0.01**2
"""Stabilises the luminance, (K1 * data range)^2."""
C2 = 0.03**2
"""Stabilises contrast and structure, (K2 * data range)^2."""

_CHUNK = 2**17  # values of the images that a thread has at a time, by measurement


def mean_similarity(
    x_hat: Tensor,
    x: Tensor,
    *,
    window: int,
    sigmas: Sequence[float],
    border: str,
    luminance: bool = True,
) -> Tensor:
    """Structural similarity at data range 1, its mean over the pixels and channels of each image.

    At every pixel the contrast-structure terms of all `sigmas` are multiplied with each other and
    with the luminance of the last.

    Args:
        x_hat: images (B, C, H, W), float32 or float64.
        x: images of that shape and type.
        window: odd number of taps.
        sigmas: standard deviations of the Gaussians, pixels.
        border: see `losses.structural.window.gaussian_matrix`.
        luminance: whether it is a factor.

    Returns:
        (B,), in [-1, 1]. It can be differentiated once.

    Raises:
        RuntimeError: the gradient itself is to be differentiated.
    """
    definition = _Definition(window, tuple(sigmas), border, luminance)
    similarity: Tensor = _MeanSimilarity.apply(x_hat, x, definition)
    return similarity


class _Definition(NamedTuple):
    window: int
    sigmas: tuple[float, ...]
    border: str
    luminance: bool


class _MeanSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, x: Tensor, definition: _Definition) -> Tensor:
        of_x_hat, of_x = ctx.needs_input_grad[:2]
        value, slope_x_hat = _similarity(x_hat, x, definition, of_x_hat)
        slope_x = _similarity(x, x_hat, definition, True)[1] if of_x else None  # it is symmetric
        ctx.save_for_backward(slope_x_hat, slope_x)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # by create_graph=True; a constant would be silently wrong
            raise RuntimeError(
                "a structural loss can be differentiated once, but got a backward pass with "
                "create_graph=True; loss.backend=library, where a loss has it, knows no such limit"
            )
        each = gradient.view(-1, 1, 1, 1)
        return *(None if slope is None else slope * each for slope in ctx.saved_tensors), None


def _similarity(
    x_hat: Tensor, x: Tensor, definition: _Definition, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    """The means (B,) and, if wanted, the slope of each with respect to its `x_hat`."""
    filters = _filters(x, definition)
    buffers = _Buffers(x)
    size = len(x)
    if x.device.type == "cpu":
        size = max(1, _CHUNK * torch.get_num_threads() // x[0].numel())
    means, slopes = x.new_empty(len(x)), x.new_empty(x.shape) if differentiate else None
    with full_precision():
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            moments = _moments(x_hat[part], x[part], definition.border != "zero", buffers)
            gradients = _gradients(moments, filters, buffers) if differentiate else []
            means[part] = _forward(moments, filters, definition.luminance, gradients, buffers)
            if slopes is not None:
                _backward(moments, filters, gradients, buffers, out=slopes[part])
    return means, slopes


class _Filter(NamedTuple):
    rows: RowFilter
    columns: RowFilter


class _Moments(NamedTuple):
    """What is filtered, and what is added to the filtered images again; N = B * C."""

    maps: Tensor
    """a, b, a^2 + b^2 and a * b, (4, N, H, W); the squares are needed only in their sum."""
    levels: Tensor
    """Of a and of b, (2, N, 1, 1)."""
    channels: int


class _Buffers:
    """Tensors that are used again for the next chunk."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        if (name, shape) not in self._held:
            self._held[name, shape] = self._like.new_empty(shape)
        return self._held[name, shape]


def _filters(x: Tensor, definition: _Definition) -> list[_Filter]:
    """For each sigma."""
    height, width = x.shape[2:]
    filters = []
    for sigma in definition.sigmas:
        shared = (definition.window, sigma, definition.border, x.dtype, x.device)
        filters.append(_Filter(gaussian_filter(height, *shared), gaussian_filter(width, *shared)))
    return filters


def _moments(x_hat: Tensor, x: Tensor, centre: bool, buffers: _Buffers) -> _Moments:
    """The moments of a chunk.

    Variances do not depend on the level, so each channel's mean is taken off first: the variance
    of a flat image is then 0, not the rounding of its squared level. At a border of zeros, where
    weights do not sum to 1, the level matters.
    """
    batch, channels, height, width = x.shape
    maps = buffers("moments", 4, batch * channels, height, width)
    levels = buffers("levels", 2, batch, channels, 1, 1).zero_()
    for image, level, values in zip((x_hat, x), levels, maps[:2], strict=True):
        if centre:
            torch.mean(image, (2, 3), keepdim=True, out=level)
        torch.sub(image, level, out=values.view(x.shape))
    a, b, squares, product = maps
    torch.mul(a, a, out=squares).addcmul_(b, b)
    torch.mul(a, b, out=product)
    return _Moments(maps, levels.view(2, -1, 1, 1), channels)


def _gradients(moments: _Moments, filters: Sequence[_Filter], buffers: _Buffers) -> list[Tensor]:
    """For each filter a buffer (3, N, h, w) for ds/dm / 2, -ds/dq and ds/dr / 2, see `_product`."""
    count = moments.maps.shape[1]
    h, w = (each.matrix.outputs for each in filters[0])
    return [buffers(f"gradient {i}", 3, count, h, w) for i in range(len(filters))]


def _forward(
    moments: _Moments,
    filters: Sequence[_Filter],
    luminance: bool,
    gradients: Sequence[Tensor],
    buffers: _Buffers,
) -> Tensor:
    """Mean similarity of each image, (B,). Fills the gradients, if there are any."""
    _, count, height, _ = moments.maps.shape
    h, w = (each.matrix.outputs for each in filters[0])
    wide = [
        filter_columns(
            moments.maps, each.columns.matrix, out=buffers(f"wide {i}", 4, count, height, w)
        )
        for i, each in enumerate(filters)
    ]
    sums = moments.levels.new_zeros(count)
    for blocks in zip(*(each.rows.matrix.blocks for each in filters), strict=True):
        rows = slice(blocks[0].start, blocks[0].stop)
        filtered = [
            filter_rows(
                wide[i], block, out=buffers(f"filtered {i}", 4, count, rows.stop - rows.start, w)
            )
            for i, block in enumerate(blocks)
        ]
        parts = [gradient[:, :, rows] for gradient in gradients]
        sums += _product(filtered, moments.levels, luminance, parts, buffers).sum((1, 2))
    return sums.view(-1, moments.channels).sum(1) / (moments.channels * h * w)


def _product(
    filtered: Sequence[Tensor],
    levels: Tensor,
    luminance: bool,
    gradients: Sequence[Tensor],
    buffers: _Buffers,
) -> Tensor:
    """The similarity s at each pixel, (N, h, w), of m, n, q and r (4, N, h, w), one a filter.

    Fills the gradients (3, N, h, w), one a filter: ds/dm / 2, -ds/dq and ds/dr / 2, by (4) to (6).
    """
    contrasts = [_contrast(*each) for each in filtered]
    factor, slope = filtered[0].new_ones(1), None
    if luminance:
        factor, slope = _luminance(filtered[-1], levels, bool(gradients), buffers)
    others, all_contrasts = _products(contrasts, factor)
    for (m, n, v, c), other, gradient in zip(filtered, others, gradients, strict=False):
        half_by_m, minus_by_q, half_by_r = gradient
        torch.div(other, v, out=half_by_r)  # l / v
        torch.mul(half_by_r, c, out=minus_by_q)  # l c / v
        torch.mul(minus_by_q, m, out=half_by_m).addcmul_(half_by_r, n, value=-1)  # l (c m - n) / v
    if gradients and slope is not None:
        gradients[-1][0].addcmul_(all_contrasts, slope)  # c (n - l m) / w
    return contrasts[0].mul_(others[0])


def _contrast(m: Tensor, n: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """Contrast and structure c in place of r, with v in place of q, by (2)."""
    v = q.addcmul_(m, m, value=-1).addcmul_(n, n, value=-1).add_(C2)
    return r.addcmul_(m, n, value=-1).mul_(2).add_(C2).div_(v)


def _luminance(
    filtered: Tensor, levels: Tensor, differentiate: bool, buffers: _Buffers
) -> tuple[Tensor, Tensor | None]:
    """Luminance l by (3) and, if wanted, dl/dm / 2 = (n - l m) / w."""
    m, n, luminance, w = maps = buffers("luminance", *filtered.shape)
    torch.add(filtered[:2], levels, out=maps[:2])
    torch.mul(m, m, out=w).addcmul_(n, n).add_(C1)
    torch.mul(m, n, out=luminance).mul_(2).add_(C1).div_(w)
    return luminance, n.addcmul_(luminance, m, value=-1).div_(w) if differentiate else None


def _products(contrasts: Sequence[Tensor], factor: Tensor) -> tuple[list[Tensor], Tensor]:
    """For each contrast the product of all others and the factor; the product of all contrasts."""
    after = [factor]
    for contrast in contrasts[:0:-1]:
        after.insert(0, after[0] * contrast)
    others, before = [after[0]], contrasts[0]
    for contrast, rest in zip(contrasts[1:], after[1:], strict=True):
        others.append(before * rest)
        before = before * contrast
    return others, before


def _backward(
    moments: _Moments,
    filters: Sequence[_Filter],
    gradients: Sequence[Tensor],
    buffers: _Buffers,
    out: Tensor,
) -> None:
    """Write the slope of each image's mean similarity, (B, C, H, W), by (7)."""
    _, count, height, width = moments.maps.shape
    h, w = gradients[0].shape[2:]
    wide = [
        filter_columns(
            gradient, each.columns.adjoint, out=buffers(f"spread {i}", 3, count, h, width)
        )
        for i, (each, gradient) in enumerate(zip(filters, gradients, strict=True))
    ]
    a, b = moments.maps[:2]
    slopes = out.view(count, height, width)
    for blocks in zip(*(each.rows.adjoint.blocks for each in filters), strict=True):
        rows = slice(blocks[0].start, blocks[0].stop)
        spread = buffers("slopes", 3, count, rows.stop - rows.start, width)
        for i, block in enumerate(blocks):
            filter_rows(wide[i], block, out=spread, add=i > 0)
        half_by_m, minus_by_q, half_by_r = spread
        half_by_m.addcmul_(a[:, rows], minus_by_q, value=-1).addcmul_(b[:, rows], half_by_r)
        torch.mul(half_by_m, 2 / (moments.channels * h * w), out=slopes[:, rows])
