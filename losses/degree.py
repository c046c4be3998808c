"""How a distance grows with its residuals, measured by one gradient.

The degree `p` of a distance says how it grows when every residual `x_hat - x` is multiplied by `s`:
by `s**p`. Some distances declare it (`losses.distance.Distance.degree`). Of any other it is
measured where the reconstructions are now, by Euler's theorem on homogeneous functions,
`p = <grad of d by x_hat, x_hat - x> / d`, which needs nothing but the gradient that the backward
pass would compute anyway.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.distance import Distance
from losses.share import WHOLE, Part

LEAST_DEGREE, MOST_DEGREE = 0.1, 100.0
"""Bounds of a measured degree. A loss whose residuals are far beyond where it saturates has a
degree near 0, and would be worth nats without bound."""

LEAST_MEAN = 1e-30
"""Below it a mean distance is taken for 0: its logarithm is finite, its gradient 0."""


class Measured(NamedTuple):
    """A distance and its degree, on one batch."""

    distance: Tensor
    """(B,), differentiable by `x_hat`."""
    degree: Tensor
    """A scalar within the bounds."""
    held: Tensor
    """A scalar, 1 where the degree was out of the bounds and is held there, else 0."""


def measure(distance: Distance, x_hat: Tensor, x: Tensor, share: Part = WHOLE) -> Measured:
    """The distances of a batch with their degree, for the cost of the distance and its gradient.

    The gradient is taken here and kept for the backward pass, which so costs nothing more. It does
    not wait for the device, has no state, and does not depend on what the loss is multiplied by
    later (mixed precision's loss scaling, accumulated gradients). Works in `torch.no_grad` and
    `torch.inference_mode` as well.

    Args:
        distance: of images that do not depend on the rest of the batch.
        x_hat: reconstructions (B, C, H, W) in [0, 1].
        x: images (B, C, H, W) in [0, 1].
        share: the part of a batch that these are; the degree is that of the batch.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf, images = _plain(x_hat).requires_grad_(), _plain(x)
        d = distance(leaf, images)
        # A distance of the user's own may be constant here, and give no gradient.
        slope = (
            torch.autograd.grad(d.sum(), leaf, allow_unused=True)[0] if d.requires_grad else None
        )
    d = d.detach()
    slope = torch.zeros_like(leaf) if slope is None else slope
    # The root of 0 has no slope: identical images have nothing to gain.
    slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    with torch.no_grad():
        moved, sum_ = share.sum((slope * (leaf - images)).sum()), share.sum(d.sum())
        found = moved / sum_.clamp_min(LEAST_MEAN)
        degree = found.clamp(LEAST_DEGREE, MOST_DEGREE)
        held = (degree != found).to(degree.dtype)
    differentiable: Tensor = _WithSlope.apply(x_hat, d, slope)
    return Measured(differentiable, degree, held)


def _plain(images: Tensor) -> Tensor:
    """The images for a gradient of their own; one of inference mode has none."""
    return images.clone() if images.is_inference() else images.detach()


class _WithSlope(torch.autograd.Function):
    """Values (B,) whose gradients by `x_hat` are known."""

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, values: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient.view(-1, *[1] * (slope.ndim - 1)), None, None
