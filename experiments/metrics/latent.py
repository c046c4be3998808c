"""What the posterior says: its distance from the prior and the units in use."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from losses.elbo import kl_divergence

ACTIVE_VARIANCE = 0.01
"""A unit is active if its posterior mean varies more than this over the images (Burda, Grosse and
Salakhutdinov 2016, "Importance weighted autoencoders", section 5.2)."""


class LatentMetrics:
    """Collects the posteriors of a split, batch by batch; each image counts the same."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the images seen so far."""
        self._means: list[Tensor] = []
        self._kls: list[Tensor] = []

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
        self._means.append(mean)
        self._kls.append(kl_divergence(mean, log_variance))

    def per_unit(self) -> dict[str, NDArray[np.float64]]:
        """For each unit, (L,): `kl`, nats per image, `mean` and `variance` of the posterior mean.

        Raises:
            ValueError: fewer than the 2 images that a variance needs were added.
        """
        count = sum(len(mean) for mean in self._means)
        if count < 2:
            raise ValueError(f"latent metrics need at least 2 images, but got {count}")
        means = torch.cat(self._means).double()
        return {
            "kl": torch.cat(self._kls).double().mean(dim=0).cpu().numpy(),
            "mean": means.mean(dim=0).cpu().numpy(),
            "variance": means.var(dim=0, unbiased=True).cpu().numpy(),
        }

    def compute(self) -> dict[str, float]:
        """`kl`, nats per image, and `active_units`."""
        units = self.per_unit()
        active = int((units["variance"] > ACTIVE_VARIANCE).sum())
        return {"kl": float(units["kl"].sum()), "active_units": float(active)}
