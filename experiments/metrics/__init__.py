"""Metrics that do not depend on the loss that trained a model.

This module only names them and is cheap to import; the computations load with their module.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What a metric measures and which way is better."""

    direction: str
    """"maximize" or "minimize"."""
    unit: str
    description: str


RECONSTRUCTION = {
    "psnr": Metric("maximize", "dB", "peak signal-to-noise ratio of each image, averaged"),
    "ssim": Metric("maximize", "", "structural similarity (Wang et al. 2004)"),
    "ms_ssim": Metric("maximize", "", "multi-scale structural similarity (Wang et al. 2003)"),
    "l1": Metric("minimize", "", "mean absolute error of pixels in [0, 1]"),
    "mse": Metric("minimize", "", "mean squared error of pixels in [0, 1]"),
}
LATENT = {
    "kl": Metric("minimize", "nats", "KL from the prior to the posterior, per image"),
    "active_units": Metric("maximize", "", "latent units in use (Burda et al. 2016)"),
}
SAMPLES = {
    "sliced_wasserstein": Metric("minimize", "", "distance of prior samples to held-out images"),
    "fid": Metric("minimize", "", "Frechet distance in the features of a given extractor"),
    "kid": Metric("minimize", "", "kernel distance in the features of a given extractor"),
}
METRICS = {**RECONSTRUCTION, **LATENT, **SAMPLES}

OBJECTIVES = {**RECONSTRUCTION, **LATENT}
"""Those that are measured at every validation, so that training can be steered by them."""
