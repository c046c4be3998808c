"""What happens around training: scores, history, pictures and progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from experiments.errors import Pruned
from experiments.metrics import METRICS, measured, values_of
from experiments.record import KL_WEIGHT, Record, at_full_weight
from experiments.scoring.evaluation import SplitScores, draw_samples, reconstruct
from experiments.scoring.pictures import grid, reconstruction_grid
from experiments.tracking.loggers import ShowsPictures
from experiments.tracking.wandb.logger import SafeWandbLogger
from losses.degree import LEAST_DEGREE, MOST_DEGREE
from losses.elbo import ELBO
from models.vae import VAE, Reconstruction

log = logging.getLogger(__name__)


class StoppedAtWandb(Callback):
    """Gives a trial up whose run was stopped on W&B's page, after the step that it is in."""

    def __init__(self, logger: SafeWandbLogger) -> None:
        self._logger = logger

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        if self._logger.stop.is_set():
            raise Pruned("stopped at W&B")


class Scores(Callback):
    """Measures the loss-independent metrics at every validation and logs them as `val/...`.

    Of a trial on several processes all have the numbers of all images, and decide alike; those
    without a record write nothing.

    The best value so far of the metric that is the objective is logged as `objective`: W&B's own
    sweeps take no other for their search and their early stops. The last epoch is always
    validated, whatever the interval.
    """

    def __init__(self, record: Record | None, objective: str) -> None:
        self._record = record
        self._objective = objective
        self._scores = SplitScores()
        self._terms: dict[str, Tensor] = {}
        self._count = 0
        self._values = 0
        self._told = False
        self._best: float | None = None
        self._knows_history = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._scores, self._terms, self._count = SplitScores(), {}, 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(outputs, Reconstruction)
        self._scores.update(
            outputs.x, outputs.x_hat, outputs.mean, outputs.log_variance, outputs.sampled,
            outputs.share, outputs.sampled_share,
        )  # fmt: skip
        self._values = outputs.x[0].numel()
        # Sums: small tensors that stay, between large ones that do not, would fragment the heap.
        count = outputs.share.count
        self._count += count
        self._terms = {
            name: count * value + self._terms.get(name, 0) for name, value in outputs.terms.items()
        }

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        terms = {name: float(value) / self._count for name, value in self._terms.items()}
        metrics = {**terms, **_known_degree(pl_module), **self._scores.compute()}
        trained = self._trained(trainer)
        # Lightning keeps what is logged as float32, which holds every metric well enough.
        pl_module.log_dict({f"val/{name}": value for name, value in metrics.items()})
        if self._record is None:
            return
        pl_module.log_dict(
            {
                name: trained[name]
                for name in (f"train/{metric}" for metric in measured("likelihood"))
                if name in trained
            }
        )
        self._tell_held(trained, terms)
        log.debug(
            "epoch %d: %s",
            trainer.current_epoch + 1,
            ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()),
        )
        assert isinstance(pl_module, VAE)
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            KL_WEIGHT: pl_module.kl_weight(trainer.global_step - 1),
            **{f"val/{name}": value for name, value in metrics.items()},
            **trained,
        }
        pl_module.log(KL_WEIGHT, row[KL_WEIGHT])
        self._compare(row, self._record)
        if self._best is not None:
            pl_module.log("objective", self._best)
        self._record.add_history(row)

    def _trained(self, trainer: pl.Trainer) -> dict[str, float]:
        """What was logged of the training last, and its bound on the likelihood."""
        found = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") or name == "lr"
        }
        if {"train/mse", "train/kl"} <= found.keys():
            measures = found["train/mse"], found["train/kl"], self._values
            likelihood = values_of("likelihood", *measures)
            found |= {f"train/{name}": value for name, value in likelihood.items()}
        return found

    def _tell_held(self, trained: Mapping[str, float], validated: Mapping[str, float]) -> None:
        """Say once that the scale could not be what it should."""
        held = max(trained.get("train/degree_held", 0.0), validated.get("degree_held", 0.0))
        if held > 0 and not self._told:
            self._told = True
            log.warning(
                "the loss does not grow with the residuals as a distance should: in %.0f%% of the "
                "batches its degree was out of %g to %g and was held there (docs/losses.md); "
                "loss.degree=2 fixes it, at the scale of the squared error",
                100 * held,
                LEAST_DEGREE,
                MOST_DEGREE,
            )

    def _compare(self, now: Mapping[str, Any], record: Record) -> None:
        """Keep the best finite value of the objective among those that count.

        Those of an earlier session are in the record, which is read once.
        """
        name = f"val/{self._objective}"
        rows = at_full_weight([now, *([] if self._knows_history else record.history())])
        self._knows_history = True
        values = [self._best, *(row[name] for row in rows)]
        better = max if METRICS[self._objective].direction == "maximize" else min
        finite = (value for value in values if value is not None and math.isfinite(value))
        self._best = better(finite, default=None)


class Pictures(Callback):
    """Logs the same validation images with their reconstructions, and samples, as they improve.

    The network's part is done at once; laying them out and compressing them by a thread beside
    the training, which logs them once they are there. The rest is logged by `close`.
    """

    def __init__(self, images: Tensor, logger: ShowsPictures, every: int, device: str) -> None:
        self._images = images
        self._logger = logger
        self._every = every
        self._device = device
        self._next = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._waiting: list[tuple[int, Future[dict[str, Any]]]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._next = state_dict["next"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch < self._next:
            return
        self._next = trainer.current_epoch + self._every
        assert isinstance(pl_module, VAE)
        x_hat = reconstruct(pl_module.network, self._images, self._device)
        samples = draw_samples(pl_module.network, 64, seed=0, device=self._device)
        made = self._thread.submit(self._draw, x_hat, samples)
        self._waiting.append((trainer.global_step, made))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._log_first()

    def close(self) -> None:
        """Wait for the pictures that are not there yet, and log them."""
        while self._waiting:
            self._log_first()
        self._thread.shutdown()

    def _draw(self, x_hat: Tensor, samples: Tensor) -> dict[str, Any]:
        return {
            "reconstructions": self._logger.encoded(
                reconstruction_grid(self._images.numpy(), x_hat.numpy())
            ),
            "samples": self._logger.encoded(grid(samples.numpy(), columns=8)),
        }

    def _log_first(self) -> None:
        step, made = self._waiting.pop(0)
        self._logger.log_pictures(made.result(), step)


class Progress(Callback):
    """A bar for the whole training with the metrics that matter and the time left.

    Without a terminal, a line at most every ten seconds and at the end.
    """

    def __init__(self, objective: str, *, quiet: bool = False) -> None:
        from rich.console import Console

        self._objective = objective
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._last_line = 0.0
        self._started = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._last_line = time.monotonic()
        self._first_step = trainer.global_step
        if not self._live:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(
            "",
            total=trainer.estimated_stepping_batches,
            completed=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            epochs=trainer.max_epochs,
            metrics="",
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, idx: int
    ) -> None:
        if self._live:
            self._bar.update(
                self._task, completed=trainer.global_step, epoch=trainer.current_epoch + 1
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = trainer.callback_metrics
        names = dict.fromkeys(["val/loss", f"val/{self._objective}", "val/kl"])
        text = "  ".join(
            f"{name.removeprefix('val/')} {float(values[name]):.4g}{_unit(name)}" for name in names
        )
        if self._live:
            self._bar.update(self._task, metrics=text)
        elif not self._quiet and time.monotonic() - self._last_line > 10:
            self._last_line = time.monotonic()
            log.info(
                "epoch %d/%d  %s  %s",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                text,
                self._time_left(trainer),
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live and hasattr(self, "_bar"):
            self._bar.stop()

    def _time_left(self, trainer: pl.Trainer) -> str:
        done = trainer.global_step - self._first_step
        left = trainer.estimated_stepping_batches - trainer.global_step
        seconds = (time.monotonic() - self._started) * left / max(done, 1)
        return f"{seconds:.0f} s left at most"


def _known_degree(module: pl.LightningModule) -> dict[str, float]:
    """The degree of a loss, where it need not be measured."""
    loss = module.loss
    known = isinstance(loss, ELBO) and loss.scale == "optimal_sigma" and loss.degree is not None
    return {"degree": float(loss.degree)} if known else {}  # type: ignore[union-attr, arg-type]


def _unit(name: str) -> str:
    metric = METRICS.get(name.removeprefix("val/"))
    return f" {metric.unit}" if metric and metric.unit else ""
