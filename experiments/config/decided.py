"""What a record may decide: its trial's mathematics.

A record may come from somebody else. Where files go, where metrics are sent and what the machine
does for it are not its business, so those keys have the values of this installation instead.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import models
from experiments.config import schema
from experiments.errors import UserError
from experiments.record import read_config

BY_THE_RECORD = frozenset(
    {
        "name", "seed", "objective", "lr", "latent_dim", "beta", "batch_size", "max_epochs",
        "model", "loss",
        "data.name", "data.size", "data.channels", "data.val_fraction", "data.test_fraction",
        "data.split_seed", "data.flip", "data.crop", "data.jitter", "data.count",
        "data.generator_seed", "data.root", "data.fit", "data.max_bad_fraction",
        "kl.warmup_epochs", "kl.free_bits",
        "optimizer.weight_decay", "optimizer.schedule", "optimizer.plateau_factor",
        "optimizer.plateau_patience", "optimizer.warmup_steps", "optimizer.gradient_clip",
        "optimizer.ema_decay",
        "trainer.precision", "trainer.memory_format", "trainer.early_stopping_patience",
        "trainer.validate_every",
        "evaluation.test", "evaluation.samples", "evaluation.feature_extractor",
        "logger.name", "logger.log_images_every",
    }
)  # fmt: skip
"""Keys of the config whose value a record decides. Code and files that some of them name (a loss,
a feature extractor) need the user's word besides, see `losses.trust`."""

NOT_IN_A_RECORD = frozenset({"report", "sweep"})
"""Keys that are no part of a trial's config (see `experiments.config.plain`)."""


OLD_DEGREE = 2.0
"""The `loss.degree` of a record that has none.

It is of a version whose `optimal_sigma` was N/2 * log(d) for every distance, as if each grew like
the squared error: what it trained is not what the same loss trains today.
"""


def cache_dir() -> str:
    """Where this installation caches images, as conf/config.yaml says."""
    return os.environ.get("VAESWEEP_CACHE") or schema.DataConfig.cache_dir


BY_US: Mapping[str, Callable[[], Any]] = {
    "data.cache_dir": cache_dir,
    "trainer.device": lambda: schema.TrainerConfig.device,
    "trainer.devices": lambda: schema.TrainerConfig.devices,
    "trainer.nodes": lambda: schema.TrainerConfig.nodes,
    "trainer.strategy": lambda: schema.TrainerConfig.strategy,
    "trainer.threads": lambda: schema.TrainerConfig.threads,
    "trainer.cuda_graph": lambda: schema.TrainerConfig.cuda_graph,
    "trainer.profiler": lambda: schema.TrainerConfig.profiler,
    "trainer.progress": lambda: schema.TrainerConfig.progress,
    "logger.project": lambda: schema.LoggerConfig.project,
    "logger.entity": lambda: schema.LoggerConfig.entity,
    "logger.group": lambda: schema.LoggerConfig.group,
    "logger.tags": list,
    "logger.log_model": lambda: schema.LoggerConfig.log_model,
}
"""Keys that a record does not decide, and their values."""


def read_decided(directory: str | Path) -> dict[str, Any]:
    """The config in the record of a trial, as far as a record may decide it.

    Raises:
        UserError: there is no such record, or it is broken.
    """
    config = read_config(directory)
    for name in ("loss", "model", *{key.partition(".")[0] for key in BY_US}, "evaluation"):
        if not isinstance(config.get(name, {}), Mapping):
            raise UserError(
                f"`{name}` of a record's config must be an object, but that of {directory} is "
                f"{reprlib.repr(config[name])}"
            )
    return decided(config)


def decided(config: Mapping[str, Any]) -> dict[str, Any]:
    """A record's config with our own values where it may not decide.

    Keys that the config does not have stay away, and unknown ones stay: it is validated later.
    """
    kept: dict[str, Any] = dict(config)
    if isinstance(kept.get("loss"), Mapping):
        kept["loss"] = {"degree": OLD_DEGREE} | dict(kept["loss"])
    if isinstance(kept.get("model"), Mapping):
        kept["model"] = models.complete(kept["model"], recorded=True)
    for full_key, ours in BY_US.items():
        section, _, key = full_key.partition(".")
        if isinstance(kept.get(section), Mapping):
            kept[section] = dict(kept[section]) | {key: ours()}
    return kept
