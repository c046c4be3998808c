"""How close reconstructions are to their images: per image first, then averaged over the split.

PSNR comes from torchmetrics. SSIM and MS-SSIM are torchmetrics' numbers (the tests compare them)
computed with the matrix products of `losses.window`: torchmetrics takes 3 ms an image at 64x64 on
two cores, which would make a validation cost more than the training between two.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from losses.distance import per_image
from losses.structural import scale_weights
from losses.window import local_similarity

HIGHEST_PSNR = 100.0
"""dB, of a perfect reconstruction, whose PSNR has no bound."""

_WINDOW, _SIGMA = 11, 1.5


class ReconstructionMetrics:
    """Collects the metrics of each image of a split, batch by batch."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def update(self, x_hat: Tensor, x: Tensor) -> None:
        """Add a batch of reconstructions and images, (B, C, H, W) in [0, 1]."""
        self._batches.append(reconstruction_metrics(x_hat, x))

    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """Each metric of each image, (N,), in the order they were added."""
        names = self._batches[0]
        joined = {name: torch.cat([batch[name] for batch in self._batches]) for name in names}
        return {name: values.double().cpu().numpy() for name, values in joined.items()}

    def compute(self) -> dict[str, float]:
        """Each metric's mean over the images."""
        return {name: float(values.mean()) for name, values in self.per_image().items()}


@torch.no_grad()
def reconstruction_metrics(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Metrics of each image, (B,), for images (B, C, H, W) in [0, 1]; the data range is 1.

    `psnr` is capped at `HIGHEST_PSNR`. `ssim` reflects the borders. `ms_ssim` takes as many of
    the five scales as leave room for a window, their exponents renormalised to sum to 1.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    x_hat, x = x_hat.float(), x.float()
    with torch.autocast(x.device.type, enabled=False):
        psnr = peak_signal_noise_ratio(x_hat, x, data_range=1.0, reduction="none", dim=(1, 2, 3))
        return {
            "psnr": psnr.clamp(max=HIGHEST_PSNR),
            **_structural(x_hat, x),
            "l1": per_image((x_hat - x).abs()),
            "mse": per_image((x_hat - x).square()),
        }


def _structural(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """SSIM and MS-SSIM, sharing the finest scale."""
    weights = scale_weights(min(x.shape[-2:]), _WINDOW)
    border = _WINDOW // 2
    index = torch.ones(len(x), device=x.device)
    for scale, weight in enumerate(weights):
        luminance, contrast = local_similarity(x_hat, x, _WINDOW, _SIGMA, "reflect")
        whole = per_image(luminance * contrast)
        if scale == 0:
            ssim = whole
        # As torchmetrics does: reflected borders count for the last scale only.
        inner = per_image(contrast[..., border:-border, border:-border])
        term = whole if scale == len(weights) - 1 else inner
        index = index * term.clamp_min(0) ** weight
        x_hat, x = F.avg_pool2d(x_hat, 2), F.avg_pool2d(x, 2)
    return {"ssim": ssim, "ms_ssim": index}


def mean_image_psnr(train: Iterable[Tensor], held_out: Iterable[Tensor]) -> float:
    """PSNR, dB, of answering every held-out image with the mean of the training images.

    What a collapsed VAE reaches under a squared error; both are batches of uint8 images.
    """
    total, count = torch.zeros(()), 0
    for batch in train:
        total = total + batch.double().sum(dim=0) / 255
        count += len(batch)
    mean = (total / count).float()
    metrics = ReconstructionMetrics()
    for batch in held_out:
        x = batch.float() / 255
        metrics.update(mean.expand_as(x), x)
    return metrics.compute()["psnr"]
