"""The best trials of a table, and the images that they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import ranking
from analysis.figures.points import grouped
from analysis.runs import Runs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Images:
    """The images of a trial, by split, each uint8 (N, C, H, W), and what they were drawn from.

    Attributes:
        train: it was trained on these.
        val: it was chosen by these.
        test: neither.
        factors: of the validation images, if they are drawn cats (`analysis.latents`).
    """

    train: Tensor
    val: Tensor
    test: Tensor
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
        ValueError: there is no such metric, or no such column.
    """
    metric = metric or (runs.objectives[0] if runs.objectives else "psnr")
    table = runs.trials[runs.trials["checkpoint"].notna()]
    found = {name: ranking.best(rows, [metric]) for name, rows in grouped(table, by).items()}
    return {name: trial for name, trial in found.items() if trial is not None}


def images_of(trial: pd.Series) -> Images:
    """The images of a row of `Runs.trials`, split as the trial split them.

    Raises:
        UserError: it has no record on this machine, or its images are gone or have changed.
    """
    import torch

    from analysis.latents import factor_table
    from analysis.models import splits_of

    found, splits = splits_of(trial)
    train, val, test = (
        torch.from_numpy(np.ascontiguousarray(found.images[indices]))
        for indices in (splits.train, splits.val, splits.test)
    )
    factors = None
    if found.factors is not None:
        factors = factor_table(found.factors).iloc[splits.val].reset_index(drop=True)
    return Images(train, val, test, factors)
