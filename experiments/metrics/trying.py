"""Metrics from outside, tried before anything is trained, as losses are."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite

import torch

from experiments.metrics import added
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import reconstruction_metrics


def try_metrics(
    image_shape: tuple[int, int, int], latent_dim: int, objectives: Collection[str] = ()
) -> None:
    """Call the function of each metric from outside, on a few random images (C, H, W).

    Raises:
        ValueError: one cannot be imported, fails, or gives what it must not; an objective gives
            nothing finite, neither for noise nor for reconstructions that are like their images.
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
            batches = (x_hat, (x_hat + 9 * x) / 10)
            found = [
                reconstruction_metrics(batch, x, names=[metric.name], strict=True)[metric.name]
                for batch in batches
            ]
            values = torch.cat(found).tolist()
        else:
            values = [metric.number(*measured[metric.subject])]
        if metric.name in objectives and not any(map(isfinite, values)):
            raise ValueError(
                f"the objective `{metric.name}` must give finite numbers, but {metric.function} "
                f"gave {values[0]} for random images; mend it, or give another objective"
            )
