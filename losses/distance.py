"""The contract of a distance, checked at one seam, and the preflight of an unknown one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Distance(nn.Module, ABC):
    """Mean distance per pixel of each reconstruction from its image.

    Called with `x_hat` and `x`, both (B, C, H, W) with values in [0, 1]; returns (B,), float32,
    at least 0 and 0 for identical images, each image independent of the rest of the batch.
    "Per pixel" means per value: the mean runs over C, H and W. The data range is always 1.0.
    """

    smallest_side = 1
    """Images with a shorter side than this are refused, in pixels."""

    degree: float | None = None
    """How the distance grows with its residuals: by `s**degree` when each is multiplied by `s`,
    whatever the images. None where that is not one number: then `losses.degree` measures it."""

    def __init__(self) -> None:  # options are those that a distance names, and no others
        super().__init__()

    @abstractmethod
    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) for float32 images (B, C, H, W) whose shape has been checked."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Check the images, then measure them in float32 whatever the autocast.

        Raises:
            ValueError: the images are not both (B, C, H, W) or too small for the window.
        """
        if x.ndim != 4 or x_hat.shape != x.shape:
            raise ValueError(
                "a distance wants two batches of images of one shape (B, C, H, W), "
                f"but got x_hat {tuple(x_hat.shape)} and x {tuple(x.shape)}"
            )
        if not (x_hat.is_floating_point() and x.is_floating_point()):
            raise ValueError(
                "a distance wants floats in [0, 1], "
                f"but got x_hat of {x_hat.dtype} and x of {x.dtype}; divide 8-bit images by 255"
            )
        self.check((x.shape[1], x.shape[2], x.shape[3]))
        with torch.autocast(x.device.type, enabled=False):
            return self.distance(x_hat.float(), x.float())

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse images (C, H, W) that are too small.

        Raises:
            ValueError: a side is below `smallest_side`.
        """
        _, height, width = image_shape
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f"{type(self).__name__} needs images of {self.smallest_side} pixels or more a "
                f"side, but got {height}x{width}"
            )


def preflight(distance: Distance, image_shape: tuple[int, int, int]) -> None:
    """Measure three random images of `image_shape` (C, H, W) once, before any training.

    Raises:
        ValueError: the distance does not return (B,), is not finite, is negative, is not 0 for
            identical images, gives no gradient to `x_hat`, or fails with an error of its own.
    """
    distance.check(image_shape)
    name = type(distance).__name__
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *image_shape, generator=generator)
    noise = torch.rand(3, *image_shape, generator=generator)
    x_hat = ((x + noise) / 2).requires_grad_()  # alike: an index may be clamped where nothing is
    d = distance(x_hat, x)
    if not torch.isfinite(d).all():
        raise ValueError(f"{name} must be finite on images in [0, 1], but got {d.tolist()}")
    if (d < 0).any():
        raise ValueError(
            f"{name} must be 0 or more, but got {d.tolist()}; return a distance, not a similarity"
        )
    gradient = (
        torch.autograd.grad(d.sum(), x_hat, allow_unused=True)[0] if d.requires_grad else None
    )
    if gradient is None:
        raise ValueError(
            f"{name} must be differentiable in x_hat, but it gives x_hat no gradient; "
            "look for .detach(), .item(), NumPy or torch.no_grad() in it"
        )
    if not torch.isfinite(gradient).all():
        raise ValueError(f"{name} must have a finite gradient, but it is NaN or infinite")
    with torch.no_grad():
        identical = distance(x.clone(), x)
    # 1% admits the offset of a smoothed root such as sqrt(r^2 + 1e-6).
    if not (identical.abs() <= 0.01 * d.detach().mean()).all():
        raise ValueError(f"{name} must be 0 for identical images, but got {identical.tolist()}")


def per_image(values: Tensor) -> Tensor:
    """Mean over all but the first dimension: (B, ...) to (B,)."""
    return values.flatten(1).mean(dim=1)


def above_zero(name: str, value: object) -> float:
    """The value as a float, if it is a number above 0.

    Raises:
        ValueError: it is not.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value < float("inf")
    ):
        raise ValueError(f"`loss.{name}` must be a number above 0, but got {value!r}")
    return float(value)


def odd_window(value: object) -> int:
    """The value, if it is an odd integer of 3 or more.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 3 or value % 2 == 0:
        raise ValueError(f"`loss.window_size` must be an odd integer from 3, but got {value!r}")
    return value


def window_sigma(value: object) -> float:
    """The value as a float, if it can be the width of a Gaussian window, in pixels.

    Raises:
        ValueError: it is not from 0.1 to 1000; a narrower Gaussian underflows to NaN.
    """
    sigma = above_zero("sigma", value)
    if not 0.1 <= sigma <= 1000:
        raise ValueError(f"`loss.sigma` must be above 0: from 0.1 to 1000, but got {value!r}")
    return sigma
