"""How a training reports to its study, and is ended by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from experiments.errors import Paused, Pruned

if TYPE_CHECKING:
    from models.vae import VAE


class Reporter(Callback):
    """Reports the objectives at every validation.

    Not while the KL's weight warms up: trials that differ in their warm-up would not compare.

    Args:
        objectives: names of metrics.
        report: takes the epoch and their values; says whether to prune.
        should_stop: whether the trial should end for another reason.
        pauses: whether a trial that is pruned may go on later.
    """

    def __init__(
        self,
        objectives: Sequence[str],
        report: Callable[[int, Sequence[float]], bool],
        should_stop: Callable[[], bool],
        *,
        pauses: bool = False,
    ) -> None:
        self._objectives = objectives
        self._report, self._should_stop = report, should_stop
        self._end = Paused if pauses else Pruned
        self._reason: str | None = None

    def should_stop(self) -> bool:
        """Asked between epochs, when a training can end whole.

        Raises:
            Pruned: the last report said so; `Paused` where it may go on.
        """
        if self._reason is not None:
            raise self._end(self._reason)
        return self._should_stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not cast("VAE", pl_module).is_warmed_up:
            return
        epoch = trainer.current_epoch + 1
        values = [float(trainer.callback_metrics[f"val/{name}"]) for name in self._objectives]
        if self._report(epoch, values):
            shown = ", ".join(
                f"{name} {value:.4g}" for name, value in zip(self._objectives, values, strict=True)
            )
            self._reason = f"not among the best at epoch {epoch} ({shown})"
