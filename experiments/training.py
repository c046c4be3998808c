"""Lightning's trainer, as a trial needs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from experiments.config import objectives
from experiments.device import Hardware
from experiments.parts import Data, Schedule, mode

if TYPE_CHECKING:
    from models.vae import VAE

CHECKPOINT = "checkpoints/best.ckpt"


def fit(
    vae: VAE,
    data: Data,
    config: Mapping[str, Any],
    *,
    directory: Path,
    hardware: Hardware,
    when: Schedule,
    loggers: Sequence[Any],
    callbacks: Sequence[Callback],
) -> pl.Trainer:
    """Train, keeping the weights with the best objective in `directory`/checkpoints/best.ckpt."""
    trainer = pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=config["max_epochs"],
        check_val_every_n_epoch=when.validate_every,
        log_every_n_steps=when.log_every,
        num_sanity_val_steps=0,
        logger=list(loggers),
        # Scores come first: what they log, the others look at.
        callbacks=[*callbacks, *_steering(config, directory, when)],
        profiler=_profiler(config["trainer"]["profiler"], directory),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
    )
    trainer.fit(vae, train_dataloaders=data.train, val_dataloaders=data.val)
    return trainer


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and hardware reports off the terminal.

    And two warnings: one about its own use of PyTorch, one that an epoch may have fewer steps
    than there are between two rows of training metrics, which is meant.
    """
    names = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*treespec, LeafSpec", category=FutureWarning
            )
            warnings.filterwarnings("ignore", message="The number of training batches")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _steering(config: Mapping[str, Any], directory: Path, when: Schedule) -> list[Callback]:
    objective = objectives(config)[0]
    monitored: dict[str, Any] = {"monitor": f"val/{objective}", "mode": mode(objective)}
    callbacks: list[Callback] = []
    decay = config["optimizer"]["ema_decay"]
    if decay is not None:
        callbacks.append(EMAWeightAveraging(decay=decay))
    patience = config["trainer"]["early_stopping_patience"]
    if patience is not None:
        callbacks.append(
            EarlyStopping(
                **monitored,
                patience=when.validations(patience),
                check_finite=False,
                check_on_train_epoch_end=False,
            )
        )
    callbacks.append(
        ModelCheckpoint(
            **monitored,
            dirpath=(directory / CHECKPOINT).parent,
            filename=Path(CHECKPOINT).stem,
            enable_version_counter=False,
            save_weights_only=True,
            save_on_train_epoch_end=False,  # but with the validation that chose them
        )
    )
    return callbacks


def _profiler(kind: str | None, directory: Path) -> Profiler | None:
    if kind is None:
        return None
    # Each writes `<directory>/fit-profile.txt`.
    options: dict[str, Any] = {"dirpath": directory, "filename": "profile"}
    if kind == "pytorch":
        return PyTorchProfiler(**options, row_limit=30)
    return SimpleProfiler(**options) if kind == "simple" else AdvancedProfiler(**options)
