"""The negative evidence lower bound, with every distance put on the scale of the KL term."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from losses import SCALES
from losses.distance import Distance

LEAST_DISTANCE = 1e-7
"""Floor under the mean distance in `optimal_sigma`, without which the loss would have no lower
bound. Rounding to 8 bits alone makes a squared error of 1/255^2/12 = 1.3e-6."""


def reconstruction_term(
    distance: Tensor, *, scale: str, values: int, floor: float = LEAST_DISTANCE
) -> Tensor:
    """Scale the distances (B,) of a batch to its reconstruction term, a scalar.

    Args:
        distance: mean distance per pixel of each image, (B,).
        scale: `optimal_sigma` gives D/2 * log(mean(d)), the negative log-likelihood (up to a
            constant, nats) at the analytically optimal variance, one for the whole batch
            (Rybkin, Daniilidis and Levine 2021, "Simple and effective VAE training with
            calibrated decoders", for the squared error; any distance is rescaled by the same
            form); `sum` gives D * mean(d); `mean` gives mean(d).
        values: D = C * H * W, the number of values in an image.
        floor: least mean distance under the logarithm.

    Raises:
        ValueError: the scale is unknown.
    """
    mean = distance.mean()
    if scale == "optimal_sigma":
        return 0.5 * values * torch.log(mean.clamp_min(floor))
    if scale == "sum":
        return values * mean
    if scale == "mean":
        return mean
    raise ValueError(f"`loss.scale` must be one of {', '.join(SCALES)}, but got {scale!r}")


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each latent unit, nats; all (B, L).

    Kingma and Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


class ELBO(nn.Module):
    """Reconstruction term plus `beta` times the KL term, averaged over the batch.

    Args:
        distance: compares reconstructions with images.
        scale: of the reconstruction term, see `reconstruction_term`.
        beta: weight of the KL term (Higgins et al. 2017).
        free_bits: nats of KL, on average over the batch, that each latent unit has for free
            (Kingma et al. 2016, "Improved variational inference with inverse autoregressive
            flow").

    Raises:
        ValueError: the scale is unknown, or `beta` or `free_bits` below 0.
    """

    def __init__(
        self,
        distance: Distance,
        *,
        scale: str = "optimal_sigma",
        beta: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"`loss.scale` must be one of {', '.join(SCALES)}, but got {scale!r}")
        for name, value in (("beta", beta), ("kl.free_bits", free_bits)):
            if not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be 0 or more, but got {value!r}")
        self.distance = distance
        self.scale = scale
        self.beta = beta
        self.free_bits = free_bits

    def forward(
        self,
        x_hat: Tensor,
        x: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        kl_weight: float | Tensor = 1.0,
    ) -> dict[str, Tensor]:
        """The loss and its parts, scalars.

        Args:
            x_hat: reconstructions (B, C, H, W) in [0, 1].
            x: images (B, C, H, W) in [0, 1].
            mean: of the posterior, (B, L).
            log_variance: of the posterior, (B, L).
            kl_weight: share of `beta` that counts now, in [0, 1] (KL warm-up).

        Returns:
            `loss`; `reconstruction`, the scaled term; `distance`, the batch's mean; `kl`, summed
            over the units, before `beta` and the free bits (nats).
        """
        distance = self.distance(x_hat, x)
        reconstruction = reconstruction_term(distance, scale=self.scale, values=x[0].numel())
        kl_per_unit = kl_divergence(mean.float(), log_variance.float()).mean(dim=0)
        charged = kl_per_unit.clamp_min(self.free_bits) if self.free_bits else kl_per_unit
        loss = reconstruction + self.beta * kl_weight * charged.sum()
        return {
            "loss": loss,
            "reconstruction": reconstruction,
            "distance": distance.mean(),
            "kl": kl_per_unit.sum(),
        }
