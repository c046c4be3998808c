"""Sweeps to report, with records on disk but without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.runs import Broken, Runs
from experiments.scoring.pictures import reconstruction_grid, save_png

HOSTILE = "<img src=x onerror=alert(1)>"
"""A name that must be shown as it is."""
_ENDS = {"completed": None, "pruned": "pruned at epoch 3", "failed": "the loss is NaN at step 7"}


def sweep(
    folder: Path,
    *,
    losses: tuple[str, ...] = ("mse", "l1", "ssim"),
    count: int = 24,
    name: str = "cats",
    statuses: tuple[str, ...] = ("completed",),
    reason: str | None = None,
    with_pictures: bool = True,
) -> Runs:
    """A search over loss and latent size, with three seeds, whose statuses take turns.

    PSNR differs by loss (the first is best) and rises with the latent size.
    """
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (16, 3, 8, 8), dtype=np.uint8)
    rows: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for number in range(count):
        loss, latent = losses[number % len(losses)], (16, 64)[number // len(losses) % 2]
        status = statuses[number % len(statuses)]
        directory = folder / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        if with_pictures:
            made = rng.integers(0, 256, originals.shape, dtype=np.uint8)
            save_png(reconstruction_grid(originals, made), directory / "reconstructions.png")
        psnr = 20 - losses.index(loss) + latent / 50 + rng.normal(0, 0.01)
        scores = {"psnr": psnr, "ssim": psnr / 40, "ms_ssim": psnr / 30, "kl": latent / 2}
        has_scores = status in ("completed", "pruned")
        rows.append(
            {
                "trial": f"{name}/{number}", "source": str(folder), "sweep": name,
                "number": number, "phase": "search", "status": status,
                "reason": reason or _ENDS.get(status), "seed": number // (2 * len(losses)) % 3,
                "configuration": f"loss.name={loss} latent_dim={latent}",
                "loss.name": loss, "loss.scale": "optimal_sigma", "latent_dim": latent,
                "lr": 1e-3, "beta": 1.0, "name": name,
                **{f"val/{m}": v if has_scores else np.nan for m, v in scores.items()},
                "epochs": 8, "steps": 80, "seconds/total": 20.5, "seconds/fit": 16.0,
                "seconds/epoch": 2.0, "images_per_second": 1000.0, "directory": str(directory),
                "checkpoint": None, "wandb": f"https://wandb.example/run/{number}",
            }
        )  # fmt: skip
        history += [
            {
                "trial": f"{name}/{number}",
                "epoch": e,
                "step": 10 * e,
                "val/psnr": psnr - 4 / (e + 1),
            }
            for e in range(8 if status == "completed" else 3)
        ]
    return Runs(
        trials=pd.DataFrame(rows),
        history=pd.DataFrame(history),
        objectives=("psnr",),
        searched=("loss.name", "latent_dim"),
    )


def empty(folder: Path) -> Runs:
    """A sweep of which nothing has begun, beside something that could not be read."""
    runs = sweep(folder, count=1)
    broken = [Broken(str(folder / "7"), "result.json is cut off")]
    return Runs(runs.trials.iloc[:0], runs.history.iloc[:0], broken)
