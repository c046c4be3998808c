"""Structural distances: SSIM and its multi-scale forms, each as its library defines it.

Every class but `MultiScaleSSIM` names a library's loss and computes the same number by matrix
products (`backend="fast"`, see `losses.structural.window`) or by the library itself
(`backend="library"`).
The definitions differ:

| distance | value | border | scales |
|---|---|---|---|
| ssim | 1 - SSIM | unpadded | one |
| kornia_ssim | (1 - SSIM) / 2 | reflected | one |
| ms_ssim | 1 - MS-SSIM | unpadded | Wang et al. 2003: halved images |
| kornia_ms_ssim | 0.025 (1 - MS-SSIM) + 0.975 L1 | zeros | Zhao et al. 2017: wider windows |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from losses.distance import Distance, above_zero, odd_window, per_image, window_sigma
from losses.structural.similarity import mean_similarity
from losses.structural.window import column_sums

BACKENDS = ("fast", "library")
WANG_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""

_LEAST_TERM = 1e-6  # below it a scale's similarity is clamped: no fractional power of <= 0


class SSIM(Distance):
    """MONAI's `SSIMLoss`: 1 - SSIM over the windows that fit in the image, in [0, 2].

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    with a Gaussian window, K1 = 0.01 and K2 = 0.03, averaged over the channels.

    Args:
        window_size: odd number of taps.
        sigma: standard deviation of the window, pixels.
        backend: "fast" or "library".

    Raises:
        ValueError: an option is out of range, or (when called) an image is smaller than a window.
    """

    def __init__(self, window_size: int = 11, sigma: float = 1.5, backend: str = "fast") -> None:
        super().__init__()
        self.window_size = self.smallest_side = odd_window(window_size)
        self.sigma = window_sigma(sigma)
        self._library = None
        if _checked(backend) == "library":
            from monai.losses.ssim_loss import SSIMLoss

            self._library = SSIMLoss(
                2, win_size=window_size, kernel_sigma=self.sigma, reduction="none"
            )

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        if self._library is not None:
            # Rounding takes 1 - SSIM of nearly identical images below 0.
            return self._library(x_hat, x).flatten().clamp_min(0)  # type: ignore[no-any-return]
        similarity = mean_similarity(
            x_hat, x, window=self.window_size, sigmas=[self.sigma], border="valid"
        )
        return (1 - similarity).clamp_min(0)


class KorniaSSIM(Distance):
    """Kornia's `ssim_loss`: (1 - SSIM) / 2 at every pixel, borders reflected, in [0, 1].

    The window is a Gaussian of sigma 1.5 whatever its size. Kornia's default `eps` of 1e-12 in
    the denominator keeps two identical black images 6e-6 apart; it is 0 here.

    Args:
        window_size: odd number of taps.
        backend: "fast" or "library".

    Raises:
        ValueError: an option is out of range, or (when called) an image is too small to reflect.
    """

    def __init__(self, window_size: int = 11, backend: str = "fast") -> None:
        super().__init__()
        self.window_size = odd_window(window_size)
        self.smallest_side = window_size // 2 + 1
        self._library = None
        if _checked(backend) == "library":
            from kornia.losses import ssim_loss

            self._library = ssim_loss

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        if self._library is not None:
            return per_image(self._library(x_hat, x, self.window_size, eps=0.0, reduction="none"))
        similarity = mean_similarity(
            x_hat, x, window=self.window_size, sigmas=[1.5], border="reflect"
        )
        return ((1 - similarity) / 2).clamp(0, 1)


class MultiScaleSSIM(Distance):
    """1 - MS-SSIM, in [0, 1], with as many of the five scales as the image allows.

    Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality
    assessment": contrast and structure at every scale, luminance at the coarsest, each image
    halved by 2x2 averages from scale to scale. K scales need sides of window_size * 2^(K-1)
    pixels; the exponents of the first K are renormalised to sum to 1. A scale's mean below 1e-6
    (images that anti-correlate) is clamped there.

    Args:
        window_size: odd number of taps.
        sigma: standard deviation of the window, pixels.

    Raises:
        ValueError: an option is out of range, or (when called) an image is smaller than a window.
    """

    def __init__(self, window_size: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        self.window_size = self.smallest_side = odd_window(window_size)
        self.sigma = window_sigma(sigma)

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        weights = scale_weights(min(x.shape[-2:]), self.window_size)
        index = torch.ones(len(x), device=x.device)
        for scale, weight in enumerate(weights):
            if scale > 0:
                x_hat, x = F.avg_pool2d(x_hat, 2), F.avg_pool2d(x, 2)
            similarity = mean_similarity(
                x_hat,
                x,
                window=self.window_size,
                sigmas=[self.sigma],
                border="valid",
                luminance=scale == len(weights) - 1,
            )
            index = index * similarity.clamp_min(_LEAST_TERM) ** weight
        return (1 - index).clamp_min(0)


class KorniaMultiScaleSSIM(Distance):
    """Kornia's `MS_SSIMLoss`: MS-SSIM mixed with L1 under a Gaussian (Zhao et al. 2017).

    `compensation * (alpha * (1 - MS-SSIM) + (1 - alpha) * G * |x_hat - x|)`, where the scales are
    Gaussians of sigma 0.5, 1, 2, 4 and 8 at full resolution in windows of 33 taps over an image
    padded with zeros, and G is the widest. Zhao et al., "Loss functions for image restoration
    with neural networks", set alpha to 0.84, their code and Kornia to 0.025; Kornia multiplies
    by a compensation of 200.

    Args:
        alpha: share of the MS-SSIM term, in [0, 1].
        compensation: factor of the whole; 1 makes it a mean distance per pixel in [0, 1].
        backend: "fast" or "library" (tens of times slower).

    Raises:
        ValueError: an option is out of range.
    """

    SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)
    WINDOW = 33

    def __init__(
        self, alpha: float = 0.025, compensation: float = 1.0, backend: str = "fast"
    ) -> None:
        super().__init__()
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
            raise ValueError(f"`loss.alpha` must be in [0, 1], but got {alpha!r}")
        self.alpha = alpha
        self.compensation = above_zero("compensation", compensation)
        if alpha == 0:  # nothing but L1
            self.degree = 1.0
        self._library = None
        if _checked(backend) == "library":
            from kornia.losses import MS_SSIMLoss

            self._library = MS_SSIMLoss(
                alpha=alpha, compensation=self.compensation, reduction="none"
            )

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        if self._library is not None:
            return per_image(self._library(x_hat, x)).clamp_min(0)
        similarity = mean_similarity(
            x_hat, x, window=self.WINDOW, sigmas=self.SIGMAS, border="zero"
        )
        # The mean of filtered errors is that of the errors, each times what the filter makes of it.
        rows, columns = (
            column_sums(side, self.WINDOW, self.SIGMAS[-1], "zero", x.dtype, x.device)
            for side in x.shape[-2:]
        )
        l1 = per_image((x_hat - x).abs() * rows[:, None] * columns)
        mixed = self.alpha * (1 - similarity) + (1 - self.alpha) * l1
        return self.compensation * mixed.clamp_min(0)


def scale_weights(side: int, window_size: int) -> list[float]:
    """Exponents for the scales at which a window fits into an image of `side`; they sum to 1."""
    scales = 1
    while scales < len(WANG_WEIGHTS) and side // 2**scales >= window_size:
        scales += 1
    weights = WANG_WEIGHTS[:scales]
    return [weight / sum(weights) for weight in weights]


def _checked(backend: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(
            f"`loss.backend` must be one of {', '.join(BACKENDS)}, but got {backend!r}"
        )
    return backend
