"""Kornia's mix of MS-SSIM and L1."""

from __future__ import annotations

from collections.abc import Sequence

from kornia.losses import MS_SSIMLoss
from torch import Tensor

from losses import _options
from losses.distance import Distance, per_image_mean


class KorniaMSSSIM(Distance):
    """`compensation * (alpha * (1 - MS-SSIM) + (1 - alpha) * L1)`, Kornia's `MS_SSIMLoss`.

    Zhao, Gallo, Frosio and Kautz, "Loss functions for image restoration with neural networks",
    2017: one Gaussian per entry of `sigmas`, all at full resolution, the last being the coarsest;
    luminance at the coarsest, contrast-structure at all of them; L1 filtered by the coarsest; the
    images are padded with zeros; data range 1. `alpha` of 0.025 and `compensation` of 200 are
    Kornia's defaults (the paper has alpha 0.84 and no compensation). The value is Kornia's own
    number, in [0, 200 * (1 + alpha)]: scale `optimal_sigma` does not see the compensation, `sum`
    and `mean` do. Not the pyramid of Wang et al.: that is `ms_ssim`.
    """

    name = "kornia_ms_ssim"

    def __init__(
        self,
        sigmas: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
        alpha: float = 0.025,
        compensation: float = 200.0,
    ) -> None:
        super().__init__()
        self.sigmas = _options.positives("sigmas", sigmas)
        self.alpha = _options.fraction("alpha", alpha)
        self.compensation = _options.positive("compensation", compensation)
        self._library = MS_SSIMLoss(
            sigmas=self.sigmas,
            data_range=1.0,
            alpha=self.alpha,
            compensation=self.compensation,
            reduction="none",
        )

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        # Rounding can take 1 - MS-SSIM of nearly identical images below 0.
        return per_image_mean(self._library(x_hat, x)).clamp_min(0)
