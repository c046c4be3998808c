"""What the record beside a checkpoint says of how, and on what, its model was trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.errors import UserError
from experiments.record import RESULT, read_result
from experiments.record.checkpoint import Saved
from experiments.record.foreign import read_npz

_SCORES = "validation.npz"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statistics:
    """Of the validation images under the trained model: what photos like them look like to it.

    Attributes:
        mse: mean squared error of each image's reconstruction, (N,), sorted.
        kl: of each latent unit, nats per image, (L,).
        mean: of each unit's posterior mean over the images, (L,), or None in older records.
        variance: of the same, (L,).
    """

    mse: NDArray[np.float64]
    kl: NDArray[np.float64]
    mean: NDArray[np.float64] | None
    variance: NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A trial's record.

    Attributes:
        result: the content of result.json.
        statistics: of its validation images, or None where the trial did not come so far.
    """

    result: Mapping[str, Any]
    statistics: Statistics | None

    @property
    def fit(self) -> str:
        """How photos were brought to the model's shape: crop, pad or squash."""
        return str(self.result["parameters"].get("data.fit", "crop"))


def read_trained(saved: Saved) -> Trained | None:
    """The record that a checkpoint is part of; None, with a line in the log, where there is none.

    Args:
        saved: in the folder `checkpoints` of a record; a record of another network is not believed.
    """
    directory = saved.path.absolute().parent.parent
    if not (directory / RESULT).exists():
        log.info("%s has no record beside it: nothing is known of its training", saved.path)
        return None
    try:
        result = read_result(directory)
        parameters = result["parameters"]
        if (parameters["latent_dim"], parameters["model.name"]) != (saved.latent_dim, saved.name):
            raise UserError(f"{directory / RESULT} describes another network")
        return Trained(result, _statistics(directory / _SCORES, saved.latent_dim))
    except (UserError, KeyError, TypeError) as error:
        log.warning("the record of %s cannot be used: %s", saved.path, error)
        return None


def _statistics(path: Path, latent_dim: int) -> Statistics | None:
    if not path.exists():
        return None
    try:
        scores = read_npz(path)
        found = Statistics(
            np.sort(scores["mse"]),
            scores["kl_per_unit"],
            scores.get("mean_per_unit"),
            scores["variance_per_unit"],
        )
    except (OSError, ValueError, KeyError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    units = [found.kl, found.variance, *([] if found.mean is None else [found.mean])]
    shapes = {values.shape for values in units}
    whole = all(np.isfinite(values).all() for values in (found.mse, *units))
    if not whole or found.mse.ndim != 1 or not len(found.mse) or shapes != {(latent_dim,)}:
        log.warning("%s is of another model", path)
        return None
    return found
