"""The callback through which a training reports to its study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from experiments.errors import Pruned

if TYPE_CHECKING:
    from models.vae import VAE


class Reporter(Callback):
    """Reports the objectives at every validation, and ends a trial that is pruned.

    Not while the KL's weight warms up: trials that differ in their warm-up would not compare.

    Args:
        objectives: names of metrics.
        report: takes the epoch and their values; says whether to prune.
    """

    def __init__(
        self, objectives: Sequence[str], report: Callable[[int, Sequence[float]], bool]
    ) -> None:
        self._objectives = objectives
        self._report = report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not cast("VAE", pl_module).is_warmed_up:
            return
        epoch = trainer.current_epoch + 1
        values = [float(trainer.callback_metrics[f"val/{name}"]) for name in self._objectives]
        last = epoch == trainer.max_epochs
        if self._report(epoch, values) and not last:
            shown = ", ".join(
                f"{name} {value:.4g}" for name, value in zip(self._objectives, values, strict=True)
            )
            raise Pruned(f"not among the best at epoch {epoch} ({shown})")
