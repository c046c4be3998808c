"""The contract that every distance keeps, checked here once."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Distance(nn.Module):
    """Base of the distances: a subclass defines `distance` and, if it has a window, `min_size`.

    Calling it takes `x_hat` and `x`, both `(B, C, H, W)` floats in [0, 1] of any floating dtype,
    and returns `(B,)` in float32: the mean distance per pixel and channel of each image, at least
    0, and 0 for identical images. It computes in float32, also under autocast, because differences
    of squares (the variances of SSIM) and small errors do not survive half precision.

    Raises ValueError for inputs of other shapes or dtypes, or too small for the window.
    """

    name: ClassVar[str] = "distance"

    def __init__(self) -> None:
        super().__init__()

    @property
    def min_size(self) -> int:
        """The smallest height and width, in pixels, of the images that it takes."""
        return 1

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """The distance itself: float32 `(B, C, H, W)`, twice, to `(B,)`."""
        raise NotImplementedError(f"{type(self).__name__} must define `distance(x_hat, x)`")

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError if images of shape `(C, H, W)` cannot be compared."""
        height, width = image_shape[1:]
        if min(height, width) < self.min_size:
            raise ValueError(
                f"the loss `{self.name}` needs images of {self.min_size}x{self.min_size} pixels or "
                f"more, but got {height}x{width}; use larger images, a smaller window if the loss "
                "has one, or another loss"
            )

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        _check_inputs(self.name, x_hat, x)
        self.check((x.shape[1], x.shape[2], x.shape[3]))
        with torch.autocast(device_type=x.device.type, enabled=False):
            values = self.distance(x_hat.float(), x.float())
        _check_output(self.name, values, len(x))
        return values.float()


def per_image_mean(values: Tensor) -> Tensor:
    """The mean over all but the first dimension: `(B, ...)` to `(B,)`."""
    return values.flatten(1).mean(1)


def _check_inputs(name: str, x_hat: Tensor, x: Tensor) -> None:
    if x.ndim != 4 or x_hat.shape != x.shape or x.numel() == 0:
        raise ValueError(
            f"the loss `{name}` takes x_hat and x of the same shape (B, C, H, W), but got x_hat "
            f"{tuple(x_hat.shape)} and x {tuple(x.shape)}"
        )
    if not (x_hat.is_floating_point() and x.is_floating_point()):
        raise ValueError(
            f"the loss `{name}` takes floats in [0, 1], but got x_hat of {x_hat.dtype} and x of "
            f"{x.dtype}; divide 8-bit images by 255"
        )


def _check_output(name: str, values: Any, batch_size: int) -> None:
    got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if got != (batch_size,):
        raise ValueError(
            f"the loss `{name}` must return one value per image, shape (B,) = ({batch_size},), "
            f"but got {got}"
        )
