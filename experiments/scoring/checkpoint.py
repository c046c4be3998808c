"""The final evaluation of a trial: metrics of the best weights, and pictures of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from experiments.errors import TrialError
from experiments.metrics import failure_told, measured, values_of
from experiments.metrics.features import feature_distances
from experiments.metrics.reconstruction import mean_image_psnr
from experiments.record.checkpoint import read_saved
from experiments.record.files import replacing
from experiments.scoring.evaluation import draw_samples, evaluate, reconstruct
from experiments.scoring.pictures import grid, reconstruction_grid, save_png

if TYPE_CHECKING:
    from experiments.building import Data
    from experiments.data.batches import Batches
    from models.network import Network

log = logging.getLogger(__name__)

_SAMPLE_SEED = 0
_MOST_BYTES = 2**28
"""Limit of the held-out images that samples are compared to: 21,845 of 64x64 pixels."""


def score(
    network: Network,
    data: Data,
    checkpoint: Path,
    *,
    directory: Path,
    device: str,
    sample_images: Tensor,
    grid_size: int,
    test: bool,
    samples: int,
    feature_extractor: str | None,
    objectives: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Score the weights of `checkpoint` and write pictures and per-image scores.

    Writes `reconstructions.png`, `samples.png` and `validation.npz` (every reconstruction metric
    of each validation image, and `kl_per_unit`, `mean_per_unit` and `variance_per_unit`).

    Returns:
        Metrics of the splits: `val`, and `test` if asked for. One that is no objective may be NaN
        or infinite.

    Raises:
        TrialError: an objective is NaN or infinite.
    """
    load_weights(network, checkpoint)
    network.eval().to(device)
    drawn = draw_samples(network, max(samples, grid_size), seed=_SAMPLE_SEED, device=device)
    save_png(grid(drawn[:grid_size].numpy(), columns=8), directory / "samples.png")
    shown = reconstruct(network, sample_images, device)
    save_png(
        reconstruction_grid(sample_images.numpy(), shown.numpy()), directory / "reconstructions.png"
    )

    metrics = {}
    splits = {"val": data.val, "test": data.test} if test else {"val": data.val}
    for name, batches in splits.items():
        found = evaluate(network, batches, device)
        real = some_of(batches)
        metrics[name] = found.metrics | {
            **values_of("samples", drawn, real),
            "mean_image_psnr": mean_image_psnr(data.train, batches),
        }
        if feature_extractor is not None:
            metrics[name] |= dict.fromkeys(measured("features"), math.nan)
            with failure_told():
                metrics[name] |= feature_distances(real, drawn, feature_extractor)
        if name == "val":
            units = {f"{key}_per_unit": values for key, values in found.per_unit.items()}
            with replacing(directory / "validation.npz") as path, path.open("wb") as file:
                np.savez(file, **found.per_image, **units)  # type: ignore[arg-type]
    _refuse_broken(metrics, objectives)
    return metrics


def _refuse_broken(metrics: Mapping[str, Mapping[str, float]], objectives: Sequence[str]) -> None:
    broken = {n: None for values in metrics.values() for n in values if not np.isfinite(values[n])}
    if not broken:
        return
    said = f"the trained model gives {', '.join(broken)} that is NaN or infinite"
    if any(not np.isfinite(metrics["val"][name]) for name in objectives):
        raise TrialError(said)
    log.warning("%s, and null in the record", said)


def stride(count: int, image_shape: tuple[int, ...]) -> int:
    """The stride at which held-out images (C, H, W) are taken, to compare samples to them."""
    return -(-count * math.prod(image_shape) // _MOST_BYTES)


def some_of(batches: Batches) -> Tensor:
    """The images of a split, uint8, of a large one some: evenly spread, `_MOST_BYTES` at most."""
    shape = batches.image_shape
    every = stride(batches.image_count, shape)
    chosen = torch.empty(-(-batches.image_count // every), *shape, dtype=torch.uint8)
    seen = kept = 0
    for batch in batches:
        part = batch[-seen % every :: every]
        chosen[kept : kept + len(part)] = part
        seen, kept = seen + len(batch), kept + len(part)
    return chosen


def load_weights(network: Network, checkpoint: Path) -> None:
    """Load the network's weights from a checkpoint of `models.vae.VAE`, without running code."""
    network.load_state_dict(read_saved(checkpoint).weights)
