"""Random changes of training images, on the batch and on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.errors import UserError


class Augment(nn.Module):
    """Horizontal flip and mild colour jitter; neither by default.

    Takes float images (B, C, H, W) in [0, 1] with 1 or 3 channels and returns such images. Each
    image is changed on its own; the random numbers are those of `torch.manual_seed`, drawn on
    the images' device, so that a GPU neither waits for them nor leaves them out of a CUDA graph,
    as it would those of `kornia.augmentation`.

    Args:
        flip: whether to mirror half of the images.
        jitter: largest change of brightness (added) and contrast (a factor) and, for colour
            images, of saturation (a factor), in [0, 1]; 0.1 is mild.

    Raises:
        UserError: `jitter` is out of range.
    """

    def __init__(self, *, flip: bool = False, jitter: float = 0.0) -> None:
        super().__init__()
        if not 0 <= jitter <= 1:
            raise UserError(f"`data.jitter` must be in [0, 1], but got {jitter}")
        self._flip = flip
        self._jitter = jitter

    def forward(self, x: Tensor) -> Tensor:
        if self._flip:
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        if self._jitter > 0:
            brightness, contrast, saturation = self._factors(x)
            x = (x + (brightness - 1)).clamp(0, 1)
            x = (x * contrast).clamp(0, 1)
            if x.shape[1] == 3:
                x = saturated(x, saturation)
        return x

    def _factors(self, x: Tensor) -> Tensor:
        """Three factors for each image, (3, B, 1, 1, 1), in [1 - jitter, 1 + jitter]."""
        drawn = torch.rand(3, len(x), 1, 1, 1, device=x.device)
        return 1 + self._jitter * (2 * drawn - 1)


def saturated(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation of RGB images (B, 3, H, W) in [0, 1], at most to 1.

    That is the saturation of HSV, as in `kornia.enhance.adjust_saturation`: value and hue stay.

    Args:
        x: the images.
        factor: for each, 0 or more, (B, 1, 1, 1).
    """
    value = x.amax(1, keepdim=True)
    below = value - x
    chroma = below.amax(1, keepdim=True)
    # Saturation is chroma / value; beyond value / chroma it would be above 1.
    most = value / chroma.clamp_min(torch.finfo(x.dtype).tiny)
    return (value - below * torch.minimum(factor, most)).clamp_min(0)  # of rounding
