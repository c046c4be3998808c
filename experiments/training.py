"""Lightning's trainer, as a trial needs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from experiments.building import Data, Schedule, mode
from experiments.config import objectives
from experiments.machine.device import Hardware
from experiments.record.fence import writing
from experiments.record.files import replacing

if TYPE_CHECKING:
    from models.ranks.group import Ranks
    from models.vae import VAE

CHECKPOINT = "checkpoints/best.ckpt"
_MEANT = (
    "The number of training batches",
    "Be aware that when using `ckpt_path`, callbacks used",
    "Checkpoint directory .* exists and is not empty",
    "The `srun` command is available",
    "It is recommended to use `self.log",
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint whole, where Lightning would copy it from the temporary directory."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # By Python's own file, whose errors say why; those of PyTorch's do not.
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def remove_checkpoint(self, path: Any) -> None:
        with writing(Path(path)):
            super().remove_checkpoint(path)


class _AfterWarmUp(Callback):
    """Does not look at validations of a model that was not yet trained at its `beta`."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if cast("VAE", pl_module).is_warmed_up:
            super().on_validation_end(trainer, pl_module)


class EarlyStop(_AfterWarmUp, EarlyStopping):
    """Lightning's, once the KL's weight has warmed up."""


class BestCheckpoint(_AfterWarmUp, ModelCheckpoint):
    """Knows its file again when the record was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(self.dirpath or ".") / Path(path).name) if path else ""

        super().load_state_dict(
            state_dict
            | {
                "dirpath": self.dirpath,
                "best_model_path": moved(state_dict["best_model_path"]),
                "kth_best_model_path": moved(state_dict["kth_best_model_path"]),
                "best_k_models": {moved(p): v for p, v in state_dict["best_k_models"].items()},
            }
        )


class Averaging(EMAWeightAveraging):
    """Leaves the averaged weights in place until those who look at a validation are done.

    Lightning takes them out before the best checkpoint is saved, which would then hold weights
    other than those that were validated.
    """

    _in_place = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._in_place = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The first hook after the validation, which ends the epoch.
        if self._in_place:
            super().on_validation_epoch_end(trainer, pl_module)
            self._in_place = False
        super().on_train_epoch_end(trainer, pl_module)


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
    last: Path | None = None,
    ranks: Ranks | None = None,
) -> pl.Trainer:
    """Train, keeping the weights with the best objective in `directory`/checkpoints/best.ckpt.

    Continues from the checkpoint `last`, if there is one. Of several processes, which all call it,
    that of rank 0 keeps the weights; Lightning takes each for the only one, as the module does all
    that they do together.
    """
    leads = ranks is None or ranks.rank == 0
    rows = ranks.rows if ranks is not None else None
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
        callbacks=[*callbacks, *_steering(config, directory, when, leads=leads)],
        # A SLURM job is not for Lightning to requeue, nor are its tasks to be counted.
        plugins=[LightningEnvironment(), AtomicCheckpointIO()],
        profiler=_profiler(config["trainer"]["profiler"], directory) if leads else None,
        enable_checkpointing=leads,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
    )
    trainer.fit(
        vae,
        train_dataloaders=data.train.shared(rows) if rows else data.train,
        val_dataloaders=data.val.shared(rows) if rows else data.val,
        ckpt_path=last,
        weights_only=True,
    )
    return trainer


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and hardware reports off the terminal.

    And warnings: about its own use of PyTorch, and about what is meant: that an epoch may have
    fewer steps than there are between two rows of training metrics, that a trial continues with
    other loggers and in a directory with checkpoints, that `srun` is not used, that what
    is logged is not averaged over processes, which all have the same.
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
            for meant in _MEANT:
                warnings.filterwarnings("ignore", message=meant)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _steering(
    config: Mapping[str, Any], directory: Path, when: Schedule, *, leads: bool
) -> list[Callback]:
    objective = objectives(config)[0]
    monitored: dict[str, Any] = {"monitor": f"val/{objective}", "mode": mode(objective)}
    callbacks: list[Callback] = []
    decay = config["optimizer"]["ema_decay"]
    if decay is not None:
        callbacks.append(Averaging(decay=decay))
    patience = config["trainer"]["early_stopping_patience"]
    if patience is not None:
        callbacks.append(
            EarlyStop(
                **monitored,
                patience=when.validations(patience),
                check_finite=False,
                check_on_train_epoch_end=False,
            )
        )
    if leads:
        callbacks.append(
            BestCheckpoint(
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
