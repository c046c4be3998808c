"""Synthetic tables of trials, as `analysis.load` makes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.runs import Runs

HOSTILE = "<b>x</b><script>alert(1)</script>$y$"
"""A name that must be shown as it is."""

_LOSSES = ("mse", "l1", "ssim")


def search(count: int = 24, *, losses: tuple[str, ...] = _LOSSES, epochs: int = 8) -> Runs:
    """A search over loss, learning rate and latent size: 1 in 4 pruned, 1 in 12 failed.

    PSNR rises with log(lr) and the latent size, differs by loss, and has noise.
    """
    rng = np.random.default_rng(0)
    rows, history = [], []
    for number in range(count):
        loss, latent = losses[number % len(losses)], (8, 16, 32, 64)[number // 3 % 4]
        lr = float(10 ** rng.uniform(-4, -2))
        status = "failed" if number % 12 == 11 else "pruned" if number % 4 == 3 else "completed"
        best = 20 + 1.5 * np.log10(lr / 1e-4) + latent / 40 - losses.index(loss)
        best += rng.normal(0, 0.2)
        skill = rng.normal(0, 0.01)
        ended = {"completed": epochs, "pruned": epochs // 3, "failed": 1}[status]
        trial = f"demo/{number}"
        curve = best * (1 - np.exp(-(np.arange(ended) + 1) / 2))
        rows.append(
            {
                "trial": trial, "source": "demo", "sweep": "demo", "number": number,
                "phase": "search", "status": status, "seed": 0, "loss.name": loss,
                "loss.scale": "optimal_sigma", "lr": lr, "latent_dim": latent, "beta": 1.0,
                "configuration": f"{loss} {latent} {lr:.6g}", "epochs": ended,
                "reason": "the loss was NaN" if status == "failed" else None,
                "seconds/epoch": 2 + latent / 32,
                "val/psnr": np.nan if status == "failed" else curve[-1],
                "val/ms_ssim": np.nan if status == "failed" else 0.5 + best / 80 + skill,
                "val/kl": np.nan if status == "failed" else latent * 1.5,
            }
        )  # fmt: skip
        history += [
            {"trial": trial, "epoch": epoch, "step": 10 * epoch, "val/psnr": value}
            for epoch, value in enumerate(curve)
        ]
    return Runs(
        trials=pd.DataFrame(rows),
        history=pd.DataFrame(history),
        objectives=("psnr",),
        searched=("loss.name", "lr", "latent_dim"),
    )


def empty() -> Runs:
    """A sweep of which nothing has begun."""
    runs = search(1)
    return Runs(trials=runs.trials.iloc[:0], history=runs.history.iloc[:0])
