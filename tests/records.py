"""Records of trials that were never trained: for tests and benchmarks of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "name": "cats",
    "seed": 0,
    "objective": "psnr",
    "lr": 1e-3,
    "latent_dim": 32,
    "beta": 1.0,
    "data.name": "cats",
    "data.size": 32,
    "data.cache_dir": ".cache/vaesweep",
    "model.name": "conv",
    "loss.name": "mse",
    "loss.scale": "optimal_sigma",
    "optimizer.gradient_clip": 10.0,
    "trainer.precision": "auto",
    "logger.tags": [],
}
"""Flat, of a trial."""


def result(
    psnr: float | None = 19.5, *, status: str = "completed", **config: Any
) -> dict[str, Any]:
    """The content of a result.json.

    Args:
        psnr: on the validation split.
        status: how the trial ended.
        config: keys that differ from `CONFIG`, with __ for a dot.
    """
    parameters = CONFIG | {key.replace("__", "."): value for key, value in config.items()}
    scored = {"psnr": psnr, "ssim": 0.5, "kl": 20.0}
    return {
        "schema": 1,
        "status": status,
        "reason": None,
        "name": parameters["name"],
        "seed": parameters["seed"],
        "parameters": parameters,
        "metrics": {"val": scored} if status in ("completed", "pruned") else {},
        "timings": {"total_seconds": 12.0, "fit_seconds": 10.0, "images_per_second": 500.0},
        "data": {"fingerprint": "f" * 32, "image_shape": [3, 32, 32]},
        "epochs": 20,
        "steps": 100,
        "checkpoint": "checkpoints/best.ckpt",
    }


def write(directory: Path, content: dict[str, Any], validations: int = 2) -> Path:
    """Write a result.json and a history of so many validations; returns the directory."""
    directory.mkdir(parents=True)
    (directory / "result.json").write_text(json.dumps(content, indent=2))
    rows = [
        {"epoch": 2 * i + 1, "step": 10 * (i + 1), "val/psnr": 15.0 + i, "val/loss": None}
        for i in range(validations)
    ]
    (directory / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def write_sweep(directory: Path, contents: list[dict[str, Any]], validations: int = 2) -> Path:
    """Write the records of a sweep, the trials by their numbers; returns its directory."""
    for number, content in enumerate(contents):
        write(directory / str(number), content, validations)
    (directory / "multirun.yaml").touch()
    return directory
