"""Metrics from outside, tried before anything is trained, as losses are."""

from __future__ import annotations

import torch

from experiments.metrics import added
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import reconstruction_metrics


def try_metrics(image_shape: tuple[int, int, int], latent_dim: int) -> None:
    """Call the function of each metric from outside once, on a few random images (C, H, W).

    Raises:
        ValueError: one cannot be imported, fails, or gives what it must not.
    """
    generator = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(2, 3, *image_shape, generator=generator)
    posterior = LatentMetrics()
    posterior.update(*torch.randn(2, 3, latent_dim, generator=generator))
    measured = {
        "posterior": (posterior.per_unit(),),
        "likelihood": (0.01, 10.0, x[0].numel()),
        "samples": ((x_hat * 255).byte(), (x * 255).byte()),
        "features": tuple(torch.randn(2, 8, 4, generator=generator)),
    }
    for metric in added():
        if metric.subject == "reconstructions":
            reconstruction_metrics(x_hat, x, names=[metric.name], strict=True)
        else:
            metric.number(*measured[metric.subject])
