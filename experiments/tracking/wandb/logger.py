"""A `WandbLogger` that does not take the trial down with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from experiments.record.fence import refuse_lost

log = logging.getLogger(__name__)


class SafeWandbLogger(WandbLogger):
    """Stops logging, with one line in the log, if the client's own process dies.

    A server that goes away is the client's concern: it keeps the rows on disk.

    Args:
        failures: the exceptions that mean so.
        stop: set when the run is stopped at W&B.
        options: those of `WandbLogger`.
    """

    def __init__(
        self,
        *,
        failures: tuple[type[Exception], ...],
        stop: threading.Event,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._failures = failures
        self.stop = stop
        self.lost = False

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something with the client, unless it is lost.

        Raises:
            Superseded: the record, and so the run, is another process's by now.
        """
        if self.lost:
            return
        refuse_lost(Path(str(self.save_dir)) / "wandb")
        try:
            action(*arguments)
        except self._failures as error:
            self.lost = True
            log.warning(
                "W&B: logging stopped, because its client failed (%s); the trial goes on",
                error or type(error).__name__,
            )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.attempt(super().log_metrics, metrics, step)

    def encoded(self, picture: NDArray[Any]) -> Any:
        """A picture (H, W, 3), uint8, as W&B's client takes it: a PNG in a temporary file."""
        import wandb
        from PIL import Image

        # Through PIL, because wandb.Image rescales an array of floats by its own range.
        return wandb.Image(Image.fromarray(picture))

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Log encoded pictures under keys that stay the same from run to run."""
        self.log_metrics(pictures, step)

    def log_hyperparams(self, params: Any) -> None:
        self.attempt(super().log_hyperparams, params)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self.attempt(super().after_save_checkpoint, checkpoint_callback)

    def finalize(self, status: str) -> None:
        self.attempt(super().finalize, status)
