"""SSIM as MONAI defines it."""

from __future__ import annotations

from torch import Tensor

from losses import _options
from losses.distance import Distance


class SSIM(Distance):
    """`1 - SSIM`, MONAI's `SSIMLoss`, in [0, 2].

    The index of Wang et al., "Image quality assessment: from error visibility to structural
    similarity", 2004: Gaussian window, k1 = 0.01, k2 = 0.03, data range 1, the mean over channels
    and over the positions where the whole window lies inside the image (no padding). Not Kornia's:
    `kornia_ssim` is `(1 - SSIM) / 2` over a reflect-padded image.
    """

    name = "ssim"

    def __init__(self, window_size: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        self.window_size = _options.odd_window("window_size", window_size)
        self.sigma = _options.positive("sigma", sigma)
        # `import monai` imports all of MONAI, some 6 s, by whatever path one enters.
        from monai.losses.ssim_loss import SSIMLoss

        self._library = SSIMLoss(
            spatial_dims=2,
            data_range=1.0,
            win_size=self.window_size,
            kernel_sigma=self.sigma,
            reduction="none",
        )

    @property
    def min_size(self) -> int:
        return self.window_size

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        values: Tensor = self._library(x_hat, x)
        # Rounding can take 1 - SSIM of nearly identical images below 0.
        return values.flatten().clamp_min(0)
