"""What the posterior says: its distance from the prior and the units in use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.metrics import values_of
from losses.elbo import kl_divergence

ACTIVE_VARIANCE = 0.01
"""A unit is active if its posterior mean varies more than this over the images (Burda, Grosse and
Salakhutdinov 2016, "Importance weighted autoencoders", section 5.2)."""


class LatentMetrics:
    """Collects the posteriors of a split, batch by batch, in sums; each image counts the same."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the images seen so far."""
        self._count = 0
        self._kl = self._mean = self._squares = torch.zeros((), dtype=torch.float64)

    def update(self, mean: Tensor, log_variance: Tensor) -> None:
        """Add a batch of posteriors, both (B, L).

        Raises:
            ValueError: they are not two batches of one shape.
        """
        if mean.ndim != 2 or mean.shape != log_variance.shape:
            raise ValueError(
                "latent metrics want a mean and a log variance of one shape (B, L), "
                f"but got {tuple(mean.shape)} and {tuple(log_variance.shape)}"
            )
        mean, log_variance = mean.detach().float(), log_variance.detach().float()
        kl, mean = kl_divergence(mean, log_variance).double().sum(dim=0), mean.double()
        # Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
        before, count = self._count, len(mean)
        self._count = before + count
        center = mean.mean(dim=0)
        shift = center - self._mean
        weight = before * count / self._count
        self._squares = self._squares + (mean - center).square().sum(dim=0) + weight * shift**2
        self._mean = self._mean + shift * (count / self._count)
        self._kl = self._kl + kl

    def per_unit(self) -> dict[str, NDArray[np.float64]]:
        """For each unit, (L,): `kl`, nats per image, `mean` and `variance` of the posterior mean.

        Raises:
            ValueError: fewer than the 2 images that a variance needs were added.
        """
        if self._count < 2:
            raise ValueError(f"latent metrics need at least 2 images, but got {self._count}")
        return {
            "kl": (self._kl / self._count).cpu().numpy(),
            "mean": self._mean.cpu().numpy(),
            "variance": (self._squares / (self._count - 1)).cpu().numpy(),
        }

    def compute(self) -> dict[str, float]:
        """The metrics of the posterior."""
        return values_of("posterior", self.per_unit())


def kl(units: Mapping[str, NDArray[np.float64]]) -> float:
    """KL divergence of all units together, nats per image."""
    return float(units["kl"].sum())


def active_units(units: Mapping[str, NDArray[np.float64]]) -> int:
    """Number of active units."""
    return int((units["variance"] > ACTIVE_VARIANCE).sum())
