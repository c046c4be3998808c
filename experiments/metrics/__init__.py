"""Metrics that do not depend on the loss that trained a model.

This module only names them and is cheap to import; the computations load with their module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """What a metric measures and how its values are told apart.

    Attributes:
        name: in the config and in records.
        title: for people.
        direction: which way is better.
        unit: such as dB; may be empty.
        margin: below which a difference does not matter; None for 1% of the better value.
        description: what it measures.
    """

    name: str
    title: str
    direction: Direction
    unit: str
    margin: float | None
    description: str


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


RECONSTRUCTION = _by_name(
    Metric(
        "psnr", "PSNR", "maximize", "dB", 0.1, "peak signal-to-noise ratio of each image, averaged"
    ),
    Metric("ssim", "SSIM", "maximize", "", 0.005, "structural similarity (Wang et al. 2004)"),
    Metric(
        "ms_ssim", "MS-SSIM", "maximize", "", 0.005,
        "multi-scale structural similarity (Wang et al. 2003)",
    ),
    Metric("l1", "L1", "minimize", "", None, "mean absolute error of pixels in [0, 1]"),
    Metric("mse", "MSE", "minimize", "", None, "mean squared error of pixels in [0, 1]"),
)  # fmt: skip
LATENT = _by_name(
    Metric(
        "kl", "KL", "minimize", "nats", None,
        "KL divergence of the posterior from the prior, per image",
    ),
    Metric(
        "active_units", "active units", "maximize", "", None,
        "latent units in use (Burda et al. 2016)",
    ),
)  # fmt: skip
LIKELIHOOD = _by_name(
    Metric(
        "elbo", "ELBO", "maximize", "nats", None,
        "lower bound on the log-probability of an 8-bit image",
    ),
    Metric(
        "bits_per_dim", "bits per dimension", "minimize", "bits", None,
        "the same per value: what a code needs at most",
    ),
)  # fmt: skip
SAMPLES = _by_name(
    Metric(
        "laplacian_swd", "Laplacian SWD", "minimize", "", None,
        "distance of patches of prior samples to those of held-out images, octave by octave",
    ),
    Metric(
        "sliced_wasserstein", "sliced Wasserstein", "minimize", "", None,
        "distance of prior samples to held-out images",
    ),
    Metric(
        "fid", "FID", "minimize", "", None,
        "Frechet distance in the features of a given extractor",
    ),
    Metric(
        "kid", "KID", "minimize", "", None,
        "kernel distance in the features of a given extractor",
    ),
)  # fmt: skip
METRICS = {**RECONSTRUCTION, **LATENT, **LIKELIHOOD, **SAMPLES}

OBJECTIVES = {**RECONSTRUCTION, **LATENT, **LIKELIHOOD}
"""Those that are measured at every validation, so that training can be steered by them."""


_RELATIVE_MARGIN = 0.01


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ValueError: there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(f"a metric must be one of {', '.join(METRICS)}, but got {name!r}")
    return METRICS[name]


def direction(name: str) -> Direction:
    """Which way is better for a metric.

    Raises:
        ValueError: there is no such metric.
    """
    return metric(name).direction


def margin(name: str, best: float, changed: Mapping[str, float] | None = None) -> float:
    """Below which a difference of a metric does not matter, in its unit.

    Args:
        name: of the metric.
        best: the best value, of which a margin may be a part.
        changed: margins, by metric, that a user has given.

    Raises:
        ValueError: there is no such metric.
    """
    fixed = (changed or {}).get(name, metric(name).margin)
    return _RELATIVE_MARGIN * abs(best) if fixed is None else fixed
