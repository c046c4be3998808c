"""SSIM as Kornia defines it."""

from __future__ import annotations

from kornia.losses import ssim_loss
from torch import Tensor

from losses import _options
from losses.distance import Distance, per_image_mean


class KorniaSSIM(Distance):
    """`(1 - SSIM) / 2`, Kornia's `ssim_loss`, in [0, 1].

    The index of Wang et al. 2004: Gaussian window of sigma 1.5, data range 1, the mean over
    channels and all pixels, the image being reflect-padded at its border. Kornia's `eps` in the
    denominator is 0 here: its default of 1e-12 gives two identical black images 5.6e-6. Not
    MONAI's: `ssim` is `1 - SSIM` without padding.
    """

    name = "kornia_ssim"

    def __init__(self, window_size: int = 11) -> None:
        super().__init__()
        self.window_size = _options.odd_window("window_size", window_size)

    @property
    def min_size(self) -> int:
        # Reflection takes window_size // 2 pixels from beyond the first one.
        return self.window_size // 2 + 1

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image_mean(ssim_loss(x_hat, x, self.window_size, eps=0.0, reduction="none"))
