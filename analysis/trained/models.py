"""The best trials, the networks that they trained, and the images that these saw or did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import labels, ranking
from analysis.runs import FINGERPRINT, Runs
from analysis.trained.latents import factor_table
from experiments import data
from experiments.building import load
from experiments.config.decided import read_decided
from experiments.data import ImageSet, Splits
from experiments.errors import UserError
from experiments.record import read_result
from experiments.record.checkpoint import read_saved
from experiments.training import CHECKPOINT

if TYPE_CHECKING:
    from models.network import Network

Trial = Mapping[str, Any] | str | PathLike[str]
"""A row of `Runs.trials`, or the directory of a record."""

SPLITS = ("val", "test")

_KEPT = 2  # sets of images in memory at once; they are memory-mapped


@dataclass(frozen=True)
class Images:
    """The images of a trial, by split, each uint8 (N, C, H, W), and what they were drawn from.

    Attributes:
        train: it was trained on these.
        val: it was chosen by these.
        factors: of the validation images, if they are drawn cats (`analysis.trained.latents`).
    """

    train: Tensor
    val: Tensor
    factors: pd.DataFrame | None


def best_trials(
    runs: Runs, metric: str | None = None, *, by: Sequence[str] = ("loss.name",)
) -> dict[str, pd.Series]:
    """The completed trial of each group that is best on the validation split, and has weights.

    Args:
        runs: to choose from.
        metric: None for the first objective.
        by: columns that make the groups.

    Raises:
        ValueError: there is no such metric.
        KeyError: there is no such column.
    """
    table = runs.trials[runs.trials["checkpoint"].notna()]
    found: dict[str, pd.Series] = {}
    if table.empty:
        return found
    for values, rows in table.groupby(list(by), sort=False, dropna=False):
        best = ranking.best(rows, [metric or runs.objective])
        if best is not None:
            found[labels.group_label(dict(zip(by, values, strict=True)))] = best
    return found


def load_network(trial: Trial) -> Network:
    """The network with its best weights, in evaluation mode, on the CPU. No code is run.

    Raises:
        UserError: there is no checkpoint on this machine, or it is not vaesweep's.
    """
    return read_saved(checkpoint(trial)).network()


def checkpoint(trial: Trial) -> Path:
    """The file of a trial's best weights.

    Raises:
        UserError: there is none on this machine.
    """
    path = directory_of(trial) / CHECKPOINT
    if not path.is_file():
        raise UserError(f"a trial's checkpoint must be in its record, but there is no {path}")
    return path


def directory_of(trial: Trial) -> Path:
    """Of a trial's record.

    Raises:
        UserError: it is not on this machine.
    """
    directory = trial if isinstance(trial, str | PathLike) else trial.get("directory")
    if not isinstance(directory, str | PathLike) or not Path(directory).is_dir():
        name = trial if isinstance(trial, str | PathLike) else trial.get("trial")
        raise UserError(
            f"a trial's record must be on this machine, but that of {name} is not; "
            "load the directory of its sweep"
        )
    return Path(directory)


def held_out(trial: Trial, split: str = "test") -> Tensor:
    """The images (N, C, H, W), uint8, of a split that the trial did not train on.

    Raises:
        UserError: the images cannot be had, or are not those that the trial saw.
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, but got {split!r}")
    return _of_split(trial, split)


def train_images(trial: Trial) -> Tensor:
    """The images (N, C, H, W), uint8, that the trial trained on, without augmentation.

    Raises:
        UserError: the images cannot be had, or are not those that the trial saw.
    """
    return _of_split(trial, "train")


def images_of(trial: Trial) -> Images:
    """The images of a trial, split as the trial split them.

    Raises:
        UserError: the images cannot be had, or are not those that the trial saw.
    """
    found, splits = splits_of(trial)
    factors = None
    if found.factors is not None:
        factors = factor_table(found.factors).iloc[splits.val].reset_index(drop=True)
    return Images(train_images(trial), held_out(trial, "val"), factors)


def splits_of(trial: Trial) -> tuple[ImageSet, Splits]:
    """All images of a trial and how it split them.

    Raises:
        UserError: the images cannot be had, or are not those that the trial saw.
    """
    directory = directory_of(trial)
    settings = read_decided(directory)["data"]
    known = None if isinstance(trial, str | PathLike) else trial.get(FINGERPRINT)
    if not isinstance(known, str):
        known = str(read_result(directory).get("data", {}).get("fingerprint"))
    images = _images(known, directory)
    return images, data.split(
        images.digests,
        val_fraction=settings["val_fraction"],
        test_fraction=settings["test_fraction"],
        seed=settings["split_seed"],
    )


def _of_split(trial: Trial, name: str) -> Tensor:
    images, splits = splits_of(trial)
    return torch.from_numpy(np.ascontiguousarray(images.images[getattr(splits, name)]))


_loaded: dict[str, ImageSet] = {}


def _images(fingerprint: str, directory: Path) -> ImageSet:
    """The images of that fingerprint, which many trials share, loaded once."""
    if fingerprint not in _loaded:
        config = read_decided(directory)
        images = load(config | {"trainer": config["trainer"] | {"progress": False}})
        if images.fingerprint != fingerprint:
            raise UserError(
                "a trial's images must be those that it was trained on, but those in "
                f"{images.source} are others than those of {directory}: their fingerprint is "
                f"{images.fingerprint}, and was {fingerprint}"
            )
        while len(_loaded) >= _KEPT:
            _loaded.pop(next(iter(_loaded)))
        _loaded[fingerprint] = images
    return _loaded[fingerprint]
