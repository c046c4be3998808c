"""The negative evidence lower bound, with every distance put on the scale of the KL term."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from losses import AUTO, SCALES
from losses.degree import LEAST_MEAN, Measured, measure
from losses.distance import Distance
from losses.pixel import MSE
from losses.share import WHOLE, Part

LEAST_ERROR = 1e-7
"""Mean squared error of a batch below which nothing is left to gain. Rounding to 8 bits alone makes
one of 1/255^2/12 = 1.3e-6; without a floor the loss would have no lower bound."""

_PART = 32  # images of a batch whose degree is measured in validation


def reconstruction_term(
    distance: Tensor,
    *,
    scale: str,
    values: int,
    degree: float | Tensor = 2.0,
    floor: float = LEAST_MEAN,
) -> Tensor:
    """Scale the distances of a batch to its reconstruction term, a scalar, in nats an image.

    `optimal_sigma` is N/p * log(mean(d)). With residuals that have the density
    exp(-d(residual / sigma)) up to a constant, that is their negative log-likelihood at the best
    sigma, one for the whole batch, also up to a constant: sigma scales all N residuals, and a
    distance of degree p by its p-th power. Of the squared error (p = 2) it is a Gaussian's
    (Rybkin, Daniilidis and Levine 2021, "Simple and effective VAE training with calibrated
    decoders"), of L1 (p = 1) a Laplace distribution's. Neither a factor of the distance nor an
    exponent changes its gradient: shrinking all residuals by 1 % is worth N/100 nats in any case.

    Args:
        distance: mean distance per pixel of each image, (B,), or of all of them, a scalar.
        scale: `optimal_sigma`; `sum` gives N * mean(d); `mean` gives mean(d).
        values: N = C * H * W, the number of values in an image.
        degree: p, see `losses.degree`.
        floor: least mean distance under the logarithm.

    Raises:
        ValueError: the scale is unknown.
    """
    mean = distance.mean()
    if scale == "optimal_sigma":
        return values / degree * torch.log(mean.clamp_min(floor))
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
        degree: of the distance under `optimal_sigma`; `auto` for the one that it declares or, where
            it declares none, the one that is measured on each batch.
        beta: weight of the KL term (Higgins et al. 2017).
        free_bits: nats of KL, on average over the batch, that each latent unit has for free
            (Kingma et al. 2016, "Improved variational inference with inverse autoregressive
            flow").

    Attributes:
        degree: None where it is measured.

    Raises:
        ValueError: the scale is unknown, the degree is not above 0, or `beta` or `free_bits` below.
    """

    def __init__(
        self,
        distance: Distance,
        *,
        scale: str = "optimal_sigma",
        degree: float | str = AUTO,
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
        self.degree = distance.degree if degree == AUTO else _checked(degree)
        self.beta = beta
        self.free_bits = free_bits

    def forward(
        self,
        x_hat: Tensor,
        x: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        kl_weight: float | Tensor = 1.0,
        share: Part = WHOLE,
    ) -> dict[str, Tensor]:
        """The loss and its parts, scalars.

        Args:
            x_hat: reconstructions (B, C, H, W) in [0, 1].
            x: images (B, C, H, W) in [0, 1].
            mean: of the posterior, (B, L).
            log_variance: of the posterior, (B, L).
            kl_weight: share of `beta` that counts now, in [0, 1] (KL warm-up).
            share: the part of a batch that these are, where several processes share it; what is
                returned is of the whole batch then.

        Returns:
            `loss`, which is trained on: nats per value of an image, so that gradients are of one
            size whatever that of the images (at the scale `mean`, where the reconstruction is
            averaged already, the sum of its terms as they are); `nats`, the same per image;
            `reconstruction`, the scaled term; `distance` and `mse`, means over the batch; `kl`,
            summed over the units, before `beta` and the free bits (nats); where the degree is
            measured also `degree` and `degree_held`, 1 if it is out of bounds; where no
            gradients are wanted, of the batch's first 32 images.
        """
        values = x[0].numel()
        kl_per_unit = kl_divergence(mean.float(), log_variance.float())
        kl_per_unit = share.mean(kl_per_unit.mean(dim=0))
        charged = kl_per_unit.clamp_min(self.free_bits) if self.free_bits else kl_per_unit
        terms = self._reconstruction(x_hat, x, share)
        nats = terms["reconstruction"] + self.beta * kl_weight * charged.sum()
        loss = nats if self.scale == "mean" else nats / values
        return {"loss": loss, "nats": nats, **terms, "kl": kl_per_unit.sum()}

    def _reconstruction(self, x_hat: Tensor, x: Tensor, share: Part) -> dict[str, Tensor]:
        options: dict[str, Any] = {"scale": self.scale, "values": x[0].numel()}
        measured: dict[str, Tensor] = {}
        if self.scale != "optimal_sigma" or self.degree is not None:
            distance = self.distance(x_hat, x)
            options |= {"degree": self.degree or 2.0}
        else:
            distance, degree, held = self._measured(x_hat, x, share)
            measured = {"degree": degree, "degree_held": held}
            options |= {"degree": degree}
        average = share.mean(distance.mean())
        if type(self.distance) is MSE:
            error = average.detach()
            options |= {"floor": LEAST_ERROR}
        else:
            error = share.mean(_squared_error(x_hat, x))
            if self.scale == "optimal_sigma":
                # The floor is one of the images, whatever the distance makes of them.
                telling = error > LEAST_ERROR
                average = torch.where(telling, average, average.detach())
                if measured:
                    options["degree"] = measured["degree"] = torch.where(telling, degree, 2.0)
                    measured["degree_held"] = torch.where(telling, held, 0.0)
        term = reconstruction_term(average, **options)
        return {"reconstruction": term, "distance": average, "mse": error, **measured}

    def _measured(self, x_hat: Tensor, x: Tensor, share: Part) -> Measured:
        if torch.is_grad_enabled():
            return measure(self.distance, x_hat, x, share)
        # Nobody else wants the gradient, which costs as much as the distance: of a part, then.
        first = share.first(_PART)
        rows = max(1, first.own)  # one that is no part of the first images does not count
        part = measure(self.distance, x_hat[:rows], x[:rows], first)
        return part._replace(distance=self.distance(x_hat, x))


@torch.no_grad()
def _squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    return (x_hat.float() - x.float()).square().mean()


def _checked(degree: object) -> float:
    if isinstance(degree, bool) or not isinstance(degree, int | float) or not 0 < degree < math.inf:
        raise ValueError(f"`loss.degree` must be {AUTO} or a number above 0, but got {degree!r}")
    return float(degree)
