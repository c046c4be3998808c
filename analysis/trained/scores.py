"""Scores of each held-out image under every metric and every loss's distance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

import losses
from analysis.labels import DISTANCE
from analysis.runs import Broken, Runs
from analysis.trained.models import SPLITS, checkpoint, directory_of, load_network, splits_of
from experiments.config.decided import read_decided
from experiments.data import to_float
from experiments.errors import UserError
from experiments.metrics import measured, values_of
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.record import read_result
from experiments.record.files import replacing
from experiments.record.foreign import read_npz
from experiments.scoring.checkpoint import stride
from experiments.scoring.evaluation import draw_samples
from losses.elbo import kl_divergence

if TYPE_CHECKING:
    from losses.distance import Distance
    from models.network import Network

_SCHEMA = 3
"""Version of what is kept; raised when a score's meaning changes."""
_BATCH = 128
_SAMPLE_SEED = 0  # as the trial's own evaluation draws them
_LEAST_SAMPLES = 64
_LEVEL = "split/"
_KEY, _IMAGES = "key", "images"


@dataclass(frozen=True)
class Scores:
    """What trained models make of the same held-out images.

    Attributes:
        split: "val" or "test".
        values: for each trial, by its name in `Runs.trials`, each metric of each image, (N,), in
            the order of the split: those that are measured on reconstructions (one that is NaN
            or infinite is left out);
            `distance/<loss>` for every loss that takes such images, with its default options; and
            `kl`, nats, of the posterior from the prior, whatever `beta`. Reconstructions are
            without posterior noise.
        split_level: a row a trial, with the metrics of the posterior and of samples.
        images: for each trial the fingerprint of its images and of what is in the split. Scores
            are paired, image by image, between trials of the same fingerprint only.
        missing: completed trials that could not be scored, with the reason.
    """

    split: str
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]
    split_level: pd.DataFrame
    images: Mapping[str, str] = field(default_factory=dict)
    missing: list[Broken] = field(default_factory=list)

    def on_common_images(self, trials: Iterable[str]) -> frozenset[str]:
        """The trials that were scored on the images on which most of them were."""
        wanted = set(trials)
        groups: dict[str, set[str]] = {}
        for trial in self.values:
            groups.setdefault(self.images[trial], set()).add(trial)
        by_size = sorted(groups.values(), key=len, reverse=True)
        return frozenset(max((group & wanted for group in by_size), key=len, default=()))

    def mean(self, trial: str, metric: str) -> float:
        """A trial's mean of a metric over the images; NaN where it lacks the metric."""
        if metric in self.values[trial]:
            return float(np.mean(self.values[trial][metric]))
        return float(self.split_level.get(metric, pd.Series(dtype=float)).get(trial, np.nan))


def score(runs: Runs, trials: Iterable[str] | None = None, split: str = "test") -> Scores:
    """Score trained models on their held-out images, in one pass over these for everything.

    Scores are kept beside each record in `scores-<split>.npz`, as long as its checkpoint stays
    the same; beside a record that is read-only they are not.

    Args:
        runs: as loaded.
        trials: their names; None for those that were completed.
        split: "val" or "test".

    Raises:
        UserError: there is no trial of such a name.
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, but got {split!r}")
    found: dict[str, _Scored] = {}
    missing: list[Broken] = []
    for row in _chosen(runs, trials):
        try:
            found[row["trial"]] = _scored(row, split)
        except UserError as error:
            missing.append(Broken(row["trial"], str(error)))
    return Scores(
        split=split,
        values={trial: one.values for trial, one in found.items()},
        split_level=pd.DataFrame(
            [one.split_level for one in found.values()],
            index=pd.Index(found, name="trial", dtype=object),
            columns=list(measured("posterior", "samples")),
            dtype=np.float64,
        ),
        images={trial: one.images for trial, one in found.items()},
        missing=missing,
    )


def _chosen(runs: Runs, trials: Iterable[str] | None) -> list[dict[Any, Any]]:
    table = runs.trials
    if trials is None:
        return list(table[table["status"] == "completed"].to_dict("records"))
    names = list(trials)
    unknown = set(names) - set(table["trial"])
    if unknown:
        raise UserError(f"a trial must be one of the runs, but got {', '.join(sorted(unknown))}")
    return list(table.set_index("trial", drop=False).loc[names].to_dict("records"))


class _Scored(NamedTuple):
    """A trial's part of `Scores`, whose attributes these are."""

    values: Mapping[str, NDArray[np.float64]]
    split_level: Mapping[str, float]
    images: str


def _scored(trial: Mapping[Any, Any], split: str) -> _Scored:
    """The scores of a trial, computed or as kept."""
    directory = directory_of(trial)
    config = read_decided(directory)
    path = directory / f"scores-{split}.npz"
    key = _key(checkpoint(trial), config, read_result(directory))
    kept = _kept(path, key)
    if kept is None:
        network = load_network(trial)
        images, splits = splits_of(trial)
        indices = getattr(splits, split)
        values, level = _evaluated(
            network,
            torch.from_numpy(np.ascontiguousarray(images.images[indices])),
            _distances(images.image_shape),
            samples=max(config["evaluation"]["samples"], _LEAST_SAMPLES),
        )
        content = images.digests[indices].tobytes()
        kept = _Scored(values, level, hashlib.blake2b(content, digest_size=16).hexdigest())
        _keep(path, key, kept)
    return kept


def _distances(image_shape: tuple[int, int, int]) -> dict[str, Distance]:
    """Every loss's distance that can measure such images (C, H, W), by its metric's name."""
    found = {}
    for name in losses.names():
        if name == "custom":  # which is nothing by itself
            continue
        with suppress(ValueError):  # it needs larger images
            distance = losses.create(name)
            distance.check(image_shape)
            found[f"{DISTANCE}{name}"] = distance
    return found


@torch.inference_mode()
def _evaluated(
    network: Network, images: Tensor, measures: Mapping[str, Distance], *, samples: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Scores of each of the images (N, C, H, W), uint8, and of all of them together."""
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
    values = {name: of_each for name, of_each in values.items() if np.isfinite(of_each).all()}
    some = images[:: stride(len(images), tuple(images.shape[1:]))]
    return values, latent.compute() | values_of("samples", drawn, some)


def _key(weights: Path, config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What scores depend on, as text."""
    stat = weights.stat()
    data = config["data"]
    return json.dumps(
        {
            "schema": _SCHEMA,
            "checkpoint": [stat.st_size, stat.st_mtime_ns],
            "images": result["data"]["fingerprint"],
            "split": [data["val_fraction"], data["test_fraction"], data["split_seed"]],
            "samples": config["evaluation"]["samples"],
            "losses": losses.names(),
            "metrics": list(measured("reconstructions", "posterior", "samples")),
        },
        sort_keys=True,
    )


def _kept(path: Path, key: str) -> _Scored | None:
    """The scores in a file, if they are still those of the key."""
    try:
        arrays = read_npz(path, kinds="fU")
        if str(arrays.pop(_KEY)) != key:
            return None
        images = str(arrays.pop(_IMAGES))
    except (OSError, ValueError, KeyError):  # none, or a broken one
        return None
    if any(v.dtype.kind != "f" or v.ndim != (not n.startswith(_LEVEL)) for n, v in arrays.items()):
        return None
    level = {n.removeprefix(_LEVEL): float(v) for n, v in arrays.items() if n.startswith(_LEVEL)}
    return _Scored({n: v for n, v in arrays.items() if not n.startswith(_LEVEL)}, level, images)


def _keep(path: Path, key: str, one: _Scored) -> None:
    """Write the scores, whole or not at all; where nobody may write they are not kept."""
    level = {f"{_LEVEL}{name}": np.array(value) for name, value in one.split_level.items()}
    arrays = {**one.values, **level, _KEY: np.array(key), _IMAGES: np.array(one.images)}
    with suppress(OSError), replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
