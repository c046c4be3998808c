"""The same few validation images for every trial, as a table of the best weights' work on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from experiments.metrics import measured
from experiments.scoring.evaluation import reconstruct
from experiments.tracking.wandb import run as wandb_run

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger

    from models.network import Network


def log_sample_images(
    logger: WandbLogger,
    network: Network,
    sample_images: Tensor,
    digests: NDArray[np.uint64],
    directory: Path,
    *,
    device: str,
    step: int,
) -> None:
    """Log a table: each sample image, its reconstruction, and its metrics in `directory`/validation.npz.

    Args:
        logger: of the trial's run.
        network: with the weights that were scored.
        sample_images: the first validation images, (N, C, H, W), uint8.
        digests: of these images, (N,): an image has the same one in every trial.
        directory: of the record.
        device: to compute on.
        step: of the trial.
    """
    with np.load(directory / "validation.npz") as stored:
        scores = {name: stored[name] for name in measured("reconstructions") if name in stored}
    pairs = zip(sample_images.numpy(), reconstruct(network, sample_images, device).numpy(), strict=True)
    rows = [
        {
            "image": f"{digests[i]:016x}",
            "input": image.transpose(1, 2, 0),
            "reconstruction": reconstruction.transpose(1, 2, 0),
            **{name: float(values[i]) for name, values in scores.items()},
        }
        for i, (image, reconstruction) in enumerate(pairs)
    ]
    wandb_run.log_table(logger, "sample_images", rows, step)
