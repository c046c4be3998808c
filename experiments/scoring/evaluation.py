"""Scoring a network on a split, and drawing from its prior."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.data import to_float
from experiments.metrics import values_of
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import ReconstructionMetrics
from models.network import sample_posterior
from models.ranks.group import Ranks, Share

if TYPE_CHECKING:
    from models.network import Network

_BATCH = 256


class SplitScores:
    """Collects everything that is measured on one split, one forward pass for all.

    Reconstructions are scored as they come from the posterior's mean, without noise; only the
    bound on the likelihood is of those that come from samples of the posterior.
    """

    def __init__(self) -> None:
        self.reconstruction = ReconstructionMetrics()
        self.latent = LatentMetrics()
        self._errors, self._sampled = torch.zeros((), dtype=torch.float64), 0
        self._values = 0

    def update(
        self,
        x: Tensor,
        x_hat: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        sampled: Tensor,
        share: Share | None = None,
        sampled_share: Share | None = None,
    ) -> None:
        """Add a batch: images and reconstructions (B, C, H, W), posteriors (B, L).

        `sampled` are reconstructions from samples of the posterior, of the first images or all. If
        these are one process's shares of a batch, all of the batch is added.
        """
        share = share or Ranks().share(len(x))
        sampled_share = sampled_share or Ranks().share(len(sampled))
        self.reconstruction.update(x_hat, x, share.whole)
        self.latent.update(share.whole(mean), share.whole(log_variance))
        errors = (sampled.float() - x[: len(sampled)]).square().flatten(1).mean(1)
        errors = sampled_share.whole(errors)
        self._errors = self._errors + errors.double().sum()
        self._sampled += len(errors)
        self._values = x[0].numel()

    def compute(self) -> dict[str, float]:
        """The metrics that are measured at every validation."""
        latent = self.latent.compute()
        error = float(self._errors) / self._sampled
        likelihood = values_of("likelihood", error, latent["kl"], self._values)
        return {**self.reconstruction.compute(), **latent, **likelihood}


@dataclass(frozen=True)
class Evaluation:
    """Scores of a network on one split.

    Attributes:
        metrics: means over the split, and `saturation`: the share of the reconstructions' values
            that round to 0 or 255, less the share of the images' own.
        per_image: each reconstruction metric of each image, (N,).
        per_unit: `kl`, `mean` and `variance` of each latent unit, (L,).
    """

    metrics: dict[str, float]
    per_image: dict[str, NDArray[np.float64]]
    per_unit: dict[str, NDArray[np.float64]]


@torch.inference_mode()
def evaluate(network: Network, batches: Iterable[Tensor], device: str) -> Evaluation:
    """Score a network on uint8 batches (B, C, H, W), in float32.

    Without posterior noise but for the bound on the likelihood.
    """
    scores, noise = SplitScores(), torch.Generator().manual_seed(0)
    excess, values = torch.zeros((), dtype=torch.int64, device=device), 0
    for batch in batches:
        x = to_float(batch.to(device))
        mean, log_variance = network.encode(x)
        x_hat = network.decode(mean)
        sampled = network.decode(sample_posterior(mean, log_variance, noise))
        scores.update(x, x_hat, mean, log_variance, sampled)
        excess += _at_limits(x_hat) - _at_limits(x)
        values += x.numel()
    metrics = scores.compute() | {"saturation": float(excess) / values}
    return Evaluation(metrics, scores.reconstruction.per_image(), scores.latent.per_unit())


def _at_limits(images: Tensor) -> Tensor:
    """How many values round to 0 or 255."""
    return ((images - 0.5).abs() > 0.5 - 0.5 / 255).sum()


@torch.inference_mode()
def draw_samples(network: Network, count: int, *, seed: int, device: str) -> Tensor:
    """`count` images (count, C, H, W), uint8, decoded from draws of the prior N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, network.latent_dim, generator=generator)
    return torch.cat([to_uint8(network.decode(z.to(device))) for z in latents.split(_BATCH)])


@torch.inference_mode()
def reconstruct(network: Network, images: Tensor, device: str) -> Tensor:
    """Reconstructions, uint8, of uint8 images (N, C, H, W), without posterior noise."""
    return torch.cat([to_uint8(network(to_float(x.to(device)))) for x in images.split(_BATCH)])


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [0, 1] to the nearest uint8, on the CPU."""
    return (images.float() * 255).round().to(torch.uint8).cpu()
