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
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import ReconstructionMetrics

if TYPE_CHECKING:
    from models.network import Network

_BATCH = 256


class SplitScores:
    """Collects everything that is measured on one split, one forward pass for all."""

    def __init__(self) -> None:
        self.reconstruction = ReconstructionMetrics()
        self.latent = LatentMetrics()

    def update(self, x: Tensor, x_hat: Tensor, mean: Tensor, log_variance: Tensor) -> None:
        """Add a batch: images and reconstructions (B, C, H, W), posteriors (B, L)."""
        self.reconstruction.update(x_hat, x)
        self.latent.update(mean, log_variance)

    def compute(self) -> dict[str, float]:
        """The metrics of `RECONSTRUCTION` and `LATENT`."""
        return {**self.reconstruction.compute(), **self.latent.compute()}


@dataclass(frozen=True)
class Evaluation:
    """Of a network on one split.

    Attributes:
        metrics: means over the split.
        per_image: each reconstruction metric of each image, (N,).
        per_unit: `kl` and `variance` of each latent unit, (L,).
    """

    metrics: dict[str, float]
    per_image: dict[str, NDArray[np.float64]]
    per_unit: dict[str, NDArray[np.float64]]


@torch.inference_mode()
def evaluate(network: Network, batches: Iterable[Tensor], device: str) -> Evaluation:
    """Score a network on uint8 batches (B, C, H, W), in float32, without posterior noise."""
    scores = SplitScores()
    for batch in batches:
        x = to_float(batch.to(device))
        mean, log_variance = network.encode(x)
        scores.update(x, network.decode(mean), mean, log_variance)
    return Evaluation(scores.compute(), scores.reconstruction.per_image(), scores.latent.per_unit())


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
