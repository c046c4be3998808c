"""The recorded trainings: one table of three tasks, and what lies between its points.

A tabular benchmark for the tuning of VAEs: of every training of a dense grid, the metrics of every
validation and the seconds that an epoch took. Searches are replayed against it in milliseconds,
and without a GPU. `benchmarks/tabular/README.md` says how it was
made, and how to use it elsewhere.
"""

from __future__ import annotations

import csv
import lzma
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("trainings.csv.xz")
AXES = ("lr", "latent_dim", "beta")
"""Searched numbers, all of which are interpolated by their logarithms."""
METRICS = ("psnr", "ssim", "ms_ssim", "l1", "kl", "active_units", "elbo")
COLUMNS = ("task", "loss", *AXES, "seed", "epoch", "start_seconds", "seconds", *METRICS)

NOISE_OF_EQUALS = 0.05  # dB

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One set of images: all trainings of its grid.

    Attributes:
        name: of the task.
        losses: that were trained.
        axes: the values of the grid, by key, ascending.
        seeds: of the trainings.
        curves: of each metric, by (loss, lr, latent_dim, beta, seed, epoch); NaN where a training
            failed.
        seconds: that an epoch takes, with its validation, by (loss, latent_dim): the median, which
            neither the learning rate, beta nor the seed changes.
        start_seconds: that a training takes besides its epochs: the median.
    """

    name: str
    losses: tuple[str, ...]
    axes: Mapping[str, Array]
    seeds: tuple[int, ...]
    curves: Mapping[str, Array]
    seconds: Array
    start_seconds: float

    @property
    def epochs(self) -> int:
        """Of each training."""
        return int(self.curves["psnr"].shape[-1])

    def curve(self, values: Mapping[str, Any], seed: int, metric: str = "psnr") -> Array:
        """What a training has after each epoch, between the points of the grid by their logarithms.

        Args:
            values: `loss` and a number for each of the axes, within the grid.
            seed: one of the table's.
            metric: which.

        Returns:
            (epochs,)

        Raises:
            ValueError: a value lies outside of the grid.
        """
        found = self.curves[metric][self.losses.index(values["loss"])]
        for key in AXES:  # each time the first axis that is left goes
            found = _between(self.axes[key], float(values[key]), found, key)
        own: Array = found[self.seeds.index(seed)]
        return own

    def seconds_of(self, values: Mapping[str, Any]) -> float:
        """Of an epoch of a training."""
        own = self.seconds[self.losses.index(values["loss"])]
        return float(_between(self.axes["latent_dim"], float(values["latent_dim"]), own, "latent"))


def _between(grid: Array, value: float, along: Array, key: str) -> Array:
    if not grid[0] * (1 - 1e-9) <= value <= grid[-1] * (1 + 1e-9):
        raise ValueError(f"{key} must lie within {grid[0]:g} and {grid[-1]:g}, but got {value:g}")
    place = float(np.interp(np.log(value), np.log(grid), np.arange(len(grid))))
    low = min(int(place), len(grid) - 2)
    share = place - low
    found: Array = along[low] if share == 0 else (1 - share) * along[low] + share * along[low + 1]
    return found


def equal_truth(task: Task, seed: int, loss: str = "mse", losses: int = 4) -> Task:
    """A task of levels that end alike, but learn at different speeds and each with its own noise.

    Made of the curves of one loss, the best so far: that of level k at epoch e is what it was at
    `E (e / E)**(1 + k / 4)`, moved by a normal number of `NOISE_OF_EQUALS` for each training. Each
    seed has its own noise, since that decides who is best in truth.
    """
    own = task.losses.index(loss)
    random = np.random.default_rng(seed)
    epochs = np.arange(1, task.epochs + 1)
    curves = np.stack([task.curves["psnr"][own]] * losses)
    for level in range(losses):
        asked = task.epochs * (epochs / task.epochs) ** (1 + level / 4)
        flat = curves[level].reshape(-1, task.epochs)
        best = np.fmax.accumulate(
            flat, axis=1
        )  # else who is asked at whole epochs has higher peaks
        flat[:] = [np.interp(asked, epochs, curve) for curve in best]
        flat += random.normal(0, NOISE_OF_EQUALS, (len(flat), 1))
    return replace(
        task,
        losses=tuple(f"level{level}" for level in range(losses)),
        curves={"psnr": curves},
        seconds=np.stack([task.seconds[own]] * losses),
    )


@cache
def tasks(file: Path = FILE) -> dict[str, Task]:
    """The tasks of a table, by name."""
    with lzma.open(file, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    names = dict.fromkeys(row["task"] for row in rows)
    return {name: _task(name, [row for row in rows if row["task"] == name]) for name in names}


def _task(name: str, rows: Sequence[Mapping[str, str]]) -> Task:
    losses = tuple(dict.fromkeys(row["loss"] for row in rows))
    axes = {key: np.array(sorted({float(row[key]) for row in rows})) for key in AXES}
    seeds = tuple(sorted({int(row["seed"]) for row in rows}))
    epochs = max(int(row["epoch"]) for row in rows)
    shape = (len(losses), *map(len, axes.values()), len(seeds), epochs)
    cells = np.full((2 + len(METRICS), math.prod(shape)), np.nan)
    numbers = ("start_seconds", "seconds", *METRICS)
    places = {key: {value: i for i, value in enumerate(axis)} for key, axis in axes.items()}
    for row in rows:
        place: tuple[int, ...] = (
            losses.index(row["loss"]),
            *(places[key][float(row[key])] for key in AXES),
            seeds.index(int(row["seed"])),
            int(row["epoch"]) - 1,
        )
        cells[:, np.ravel_multi_index(place, shape)] = [float(row[key] or "nan") for key in numbers]
    found = cells.reshape(-1, *shape)
    start, seconds = np.nanmedian(found[0]), np.nanmedian(found[1], axis=(1, 3, 4, 5))
    curves = dict(zip(METRICS, found[2:], strict=True))
    return Task(name, losses, axes, seeds, curves, seconds, float(start))
