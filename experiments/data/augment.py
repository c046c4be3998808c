"""Random changes of training images, on the batch and on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.errors import UserError
from models.ranks.group import Ranks, Share


class Augment(nn.Module):
    """Horizontal flip, random crops and mild colour jitter; none by default.

    Takes float images (B, C, H, W) in [0, 1] with 1 or 3 channels and returns such images. Each
    image is changed on its own; the random numbers are those of `torch.manual_seed`, drawn on
    the images' device, so that a GPU neither waits for them nor leaves them out of a CUDA graph,
    as it would those of `kornia.augmentation`.

    Args:
        flip: whether to mirror half of the images.
        crop: least side of a random crop, as a share of the image's, in (0, 1]. Crops keep the
            image's shape and are enlarged to its size, bilinearly.
        jitter: largest change of brightness (added) and contrast (a factor) and, for colour
            images, of saturation (a factor), in [0, 1]; 0.1 is mild.

    Raises:
        UserError: `crop` or `jitter` is out of range.
    """

    def __init__(self, *, flip: bool = False, crop: float = 1.0, jitter: float = 0.0) -> None:
        super().__init__()
        if not 0 < crop <= 1:
            raise UserError(f"`data.crop` must be above 0, at most 1, but got {crop}")
        if not 0 <= jitter <= 1:
            raise UserError(f"`data.jitter` must be in [0, 1], but got {jitter}")
        self._flip = flip
        self._crop = crop
        self._jitter = jitter

    def forward(self, x: Tensor, share: Share | None = None) -> Tensor:
        share = share or Ranks().share(len(x))
        if self._flip:
            mirrored = share.drawn(torch.rand, 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        if self._crop < 1:
            x = self._cropped(x, share)
        if self._jitter > 0:
            brightness, contrast, saturation = self._factors(x, share)
            x = (x + (brightness - 1)).clamp(0, 1)
            x = (x * contrast).clamp(0, 1)
            if x.shape[1] == 3:
                x = saturated(x, saturation)
        return x

    def _cropped(self, x: Tensor, share: Share) -> Tensor:
        """A crop of each image, with its size and place drawn evenly, at the image's size."""
        drawn = share.rows(torch.rand(3, share.count, device=x.device).T).T
        side = 1 - (1 - self._crop) * drawn[0]
        window = torch.zeros(len(x), 2, 3, device=x.device)  # from -1 to 1 across the image
        for axis in (0, 1):
            window[:, axis, axis] = side
            window[:, axis, 2] = (1 - side) * (2 * drawn[1 + axis] - 1)
        places = F.affine_grid(window, list(x.shape), align_corners=False)
        return F.grid_sample(x, places, padding_mode="border", align_corners=False)

    def _factors(self, x: Tensor, share: Share) -> Tensor:
        """Three factors for each image, (3, B, 1, 1, 1), in [1 - jitter, 1 + jitter]."""
        drawn = share.rows(torch.rand(3, share.count, device=x.device).T).T
        return 1 + self._jitter * (2 * drawn[..., None, None, None] - 1)


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
