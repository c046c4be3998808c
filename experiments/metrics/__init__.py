"""Metrics that do not depend on the loss that trained a model.

This module only names them and is cheap to import; the computations load with their module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """What a metric measures and which way is better."""

    name: str
    direction: Direction
    unit: str
    description: str


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


RECONSTRUCTION = _by_name(
    Metric("psnr", "maximize", "dB", "peak signal-to-noise ratio of each image, averaged"),
    Metric("ssim", "maximize", "", "structural similarity (Wang et al. 2004)"),
    Metric("ms_ssim", "maximize", "", "multi-scale structural similarity (Wang et al. 2003)"),
    Metric("l1", "minimize", "", "mean absolute error of pixels in [0, 1]"),
    Metric("mse", "minimize", "", "mean squared error of pixels in [0, 1]"),
)
LATENT = _by_name(
    Metric("kl", "minimize", "nats", "KL divergence of the posterior from the prior, per image"),
    Metric("active_units", "maximize", "", "latent units in use (Burda et al. 2016)"),
)
LIKELIHOOD = _by_name(
    Metric("elbo", "maximize", "nats", "lower bound on the log-probability of an 8-bit image"),
    Metric("bits_per_dim", "minimize", "bits", "the same per value: what a code needs at most"),
)
SAMPLES = _by_name(
    Metric(
        "laplacian_swd",
        "minimize",
        "",
        "distance of patches of prior samples to those of held-out images, octave by octave",
    ),
    Metric("sliced_wasserstein", "minimize", "", "distance of prior samples to held-out images"),
    Metric("fid", "minimize", "", "Frechet distance in the features of a given extractor"),
    Metric("kid", "minimize", "", "kernel distance in the features of a given extractor"),
)
METRICS = {**RECONSTRUCTION, **LATENT, **LIKELIHOOD, **SAMPLES}

OBJECTIVES = {**RECONSTRUCTION, **LATENT, **LIKELIHOOD}
"""Those that are measured at every validation, so that training can be steered by them."""


def direction(name: str) -> Direction:
    """Which way is better for a metric.

    Raises:
        ValueError: there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(f"a metric must be one of {', '.join(METRICS)}, but got {name!r}")
    return METRICS[name].direction
