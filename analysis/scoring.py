"""One trained model on its held-out images, and what is kept of that beside its record."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import losses
from analysis.models import checkpoint, directory_of, load_network, splits_of
from analysis.scores import DISTANCE
from experiments.data import to_float
from experiments.decided import read_decided
from experiments.evaluation import draw_samples
from experiments.files import replacing
from experiments.foreign import read_npz
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.metrics.samples import sample_distances
from experiments.record import read_result
from losses.elbo import kl_divergence

if TYPE_CHECKING:
    from losses.distance import Distance
    from models.network import Network

OWN = f"{DISTANCE}own"

_SCHEMA = 2
"""Of what is kept; raised when a score's meaning changes."""
_BATCH = 128
_SAMPLE_SEED = 0  # as the trial's own evaluation draws them
_LEAST_SAMPLES = 64
_LEVEL = "split/"
_KEY, _IMAGES = "key", "images"


@dataclass(frozen=True)
class Scored:
    """A trial's part of `analysis.scores.Scores`, whose attributes these are."""

    values: Mapping[str, NDArray[np.float64]]
    split_level: Mapping[str, float]
    images: str


def scored(trial: Mapping[str, Any], split: str) -> Scored:
    """The scores of a trial, computed or as kept.

    Raises:
        UserError: its checkpoint or its images are not there, or are others.
    """
    directory = directory_of(trial)
    config = read_decided(directory)
    path = directory / f"scores-{split}.npz"
    key = _key(checkpoint(trial), config, read_result(directory))
    kept = _kept(path, key)
    if kept is None:
        network = load_network(trial)
        images, splits = splits_of(trial)
        indices = getattr(splits, split)
        values, level = evaluated(
            network,
            torch.from_numpy(np.ascontiguousarray(images.images[indices])),
            distances(images.image_shape, config["loss"]),
            samples=max(config["evaluation"]["samples"], _LEAST_SAMPLES),
        )
        content = images.digests[indices].tobytes()
        kept = Scored(values, level, hashlib.blake2b(content, digest_size=16).hexdigest())
        _keep(path, key, kept)
    return kept


def distances(
    image_shape: tuple[int, int, int], own: Mapping[str, Any] | None = None
) -> dict[str, Distance]:
    """Every loss's distance that can measure such images (C, H, W), by its metric's name.

    Args:
        image_shape: of the images.
        own: the loss of a trial with its options, measured as `distance/own`; one that needs
            code which is not trusted is left out.
    """
    wanted: dict[str, dict[str, Any]] = {
        f"{DISTANCE}{name}": {"name": name} for name in losses.names() if name != "custom"
    }
    if own is not None:
        wanted[OWN] = {key: value for key, value in own.items() if key not in losses.SCALING}
    found = {}
    for metric, options in wanted.items():
        with suppress(ValueError):  # it needs larger images, or somebody's word
            distance = losses.create(**options)
            distance.check(image_shape)
            found[metric] = distance
    return found


@torch.inference_mode()
def evaluated(
    network: Network, images: Tensor, measures: Mapping[str, Distance], *, samples: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Scores of each of the images (N, C, H, W), uint8, and of all of them together.

    Args:
        network: in evaluation mode.
        images: held out.
        measures: distances, by metric.
        samples: how many are drawn from the prior.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    batches: list[dict[str, Tensor]] = []
    latent = LatentMetrics()
    for batch in images.split(_BATCH):
        x = to_float(batch.to(device))
        mean, log_variance = network.encode(x)
        x_hat = network.decode(mean)
        latent.update(mean, log_variance)
        batches.append(
            {
                **reconstruction_metrics(x_hat, x),
                **{name: distance.to(device)(x_hat, x) for name, distance in measures.items()},
                "kl": kl_divergence(mean, log_variance).sum(dim=1),
            }
        )
    drawn = draw_samples(network, samples, seed=_SAMPLE_SEED, device=device)
    values = {
        name: torch.cat([batch[name] for batch in batches]).double().cpu().numpy()
        for name in batches[0]
    }
    level = latent.compute() | sample_distances(drawn, images)
    return values, level


def _key(weights: Path, config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What scores depend on, as text."""
    stat = weights.stat()
    data, loss = config["data"], config["loss"]
    return json.dumps(
        {
            "schema": _SCHEMA,
            "checkpoint": [stat.st_size, stat.st_mtime_ns],
            "images": result["data"]["fingerprint"],
            "split": [data["val_fraction"], data["test_fraction"], data["split_seed"]],
            "samples": config["evaluation"]["samples"],
            "loss": loss,
            "losses": losses.names(),
        },
        sort_keys=True,
    )


def _kept(path: Path, key: str) -> Scored | None:
    """The scores in a file, if they are still those of the key."""
    try:
        arrays = read_npz(path)
        if str(arrays.pop(_KEY)) != key:
            return None
        images = str(arrays.pop(_IMAGES))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, or a broken one
        return None
    level = {n.removeprefix(_LEVEL): float(v) for n, v in arrays.items() if n.startswith(_LEVEL)}
    return Scored({n: v for n, v in arrays.items() if not n.startswith(_LEVEL)}, level, images)


def _keep(path: Path, key: str, one: Scored) -> None:
    """Write the scores, whole or not at all; where nobody may write they are not kept."""
    level = {f"{_LEVEL}{name}": np.array(value) for name, value in one.split_level.items()}
    arrays = {**one.values, **level, _KEY: np.array(key), _IMAGES: np.array(one.images)}
    with suppress(OSError), replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
