"""Continuing a trial that was interrupted, as if it never had been.

`LastCheckpoint` saves the complete state between two epochs, `find_session` finds it again. On a
CPU the continued trial equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from experiments.config import LOGGERS
from experiments.errors import Interrupted, Paused, Pruned, UserError
from experiments.machine.device import random_state, restore_random_state
from experiments.machine.waits import scaled
from experiments.record import (
    CONFIG,
    HISTORY,
    LAST,
    RESULT,
    UNFINISHED,
    Record,
    flat,
    read_config,
    read_history,
    read_result,
)
from experiments.record.checkpoint import read_checkpoint
from experiments.record.fence import writing
from experiments.record.files import remove, replacing
from experiments.record.identity import relevant
from experiments.training import CHECKPOINT

SAVE_SECONDS = 10.0
"""Least time between two checkpoints, so that saving does not hold up short epochs."""

_RESULTS = ("checkpoints", HISTORY, "validation.npz", "reconstructions.png", "samples.png")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """An interrupted session of a trial.

    Attributes:
        result: its result.json.
        epochs: that its last checkpoint has behind it.
        best: the bytes of the best checkpoint at that time; None if there was none.
    """

    result: Mapping[str, Any]
    epochs: int
    best: Tensor | None


def find_session(
    directory: Path, config: Mapping[str, Any], fingerprint: str, *, is_single: bool = False
) -> Session | None:
    """The session in `directory` that a trial can continue; if there is none, the log says why.

    Its config must be the same but for what cannot change the result, for the number of threads,
    which is then the session's, and for the device, which may be another one now. Its images
    must have the same fingerprint.

    Raises:
        UserError: it is the directory of a single run, which has a checkpoint of another trial, or
            a broken file.
    """
    if not (directory / RESULT).exists():
        return None
    try:
        return _session(directory, config, fingerprint)
    except _StartOver as reason:
        if is_single and (directory / LAST).exists():
            rule, remedy = "be the one that was interrupted", "give its own settings and images or"
            if isinstance(reason, _Broken):
                rule, remedy = (
                    "have left whole files",
                    f"bring {reason.name} back from a copy, give",
                )
            raise UserError(
                f"a run that is continued must {rule} in {directory}, but {reason}; {remedy} "
                f"another hydra.run.dir, or remove {LAST} there to begin anew"
            ) from reason
        log.info("%s starts over: %s", directory, reason)
        return None


def earlier_run(
    directory: Path, config: Mapping[str, Any], fingerprint: str
) -> dict[str, Any] | None:
    """The W&B run of a trial that starts over in `directory`, so that it goes on in that run."""
    if not (directory / RESULT).exists():
        return None
    try:
        result = _same_trial(directory, config, fingerprint, (*UNFINISHED, "failed"))
    except _StartOver:
        return None
    run: dict[str, Any] | None = result.get("wandb")
    return run


def finished(directory: Path, config: Mapping[str, Any], fingerprint: str) -> dict[str, Any] | None:
    """The result.json in `directory` if this very trial was completed or pruned there.

    Whoever finished it may have died before the study heard of it; nobody trains it again.
    """
    if not (directory / RESULT).exists():
        return None
    try:
        return _same_trial(directory, config, fingerprint, ("completed", "pruned"))
    except _StartOver:
        return None


def restore_files(record: Record, session: Session) -> None:
    """Bring history and best checkpoint back to the time of the last checkpoint.

    A process that was killed may have been further.
    """
    record.keep_history(session.epochs)
    path = record.path(CHECKPOINT)
    if session.best is None:
        remove(path)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(session.best.numpy().tobytes())


def remove_results(directory: Path) -> None:
    """Remove what an earlier trial left in the directory of a record."""
    loggers = LOGGERS.keys() - {"wandb"}  # which continues its run
    for name in (*_RESULTS, *loggers):
        path = directory / name
        with writing(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class Continuing(Callback):
    """Brings the training to where its checkpoint left it, if it continues from one.

    Must be the first of the callbacks: it acts at the very start of an epoch.
    """

    _restored: dict[str, Any] | None = None
    _epochs_here = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._epochs_here == 0:
            self._restore(trainer, pl_module)
        self._epochs_here += 1

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restored = checkpoint["session"]

    def _restore(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Undo what Lightning did since loading, and what it believes about restarts."""
        if self._restored is None:
            return
        restore_random_state(self._restored["random_state"], pl_module.device)
        trainer.callback_metrics.update(self._restored["metrics"])
        # A loop that restarts takes the epoch's batches for done and skips the plateau schedule.
        trainer.fit_loop.restarting = False
        self._restored = None


class LastCheckpoint(Continuing):
    """Saves the state of the training between epochs, and ends it when it is asked to.

    It acts at the very start of an epoch, when the one before is complete. (At Lightning's own end
    of an epoch the plateau schedule has still to act, and a restart would skip it.) There is no
    checkpoint before the first epoch and after the last.

    Args:
        record: its directory gets checkpoints/last.ckpt, replaced whole; result.json is saved
            along with it.
        should_stop: asked after each epoch but the last, validation included; never in the middle
            of an epoch, however long that is. If it says so, a checkpoint is saved and
            `Interrupted` raised. It may raise `Pruned`, before which nothing is saved, or
            `Paused`, before which there is a checkpoint.
        save: whether there are checkpoints at all.
    """

    def __init__(
        self, record: Record, should_stop: Callable[[], bool] | None = None, *, save: bool = True
    ) -> None:
        self._record = record
        self._should_stop = should_stop
        self._save = save
        self._started = self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._saved = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._epochs_here > 0:
            self._between_epochs(trainer)
        super().on_train_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        best = self._record.path(CHECKPOINT)
        checkpoint["session"] = {
            "random_state": random_state(pl_module.device),
            "metrics": dict(trainer.callback_metrics),
            "rows": len(self._record.history()),
            "best": torch.from_numpy(np.fromfile(best, np.uint8)) if best.exists() else None,
        }

    def _between_epochs(self, trainer: pl.Trainer) -> None:
        end = self._end_of(trainer.current_epoch)
        goes_on = isinstance(end, Interrupted | Paused)
        is_time = end is None and time.monotonic() - self._saved >= scaled(SAVE_SECONDS)
        if self._save and (goes_on or is_time):
            trainer.save_checkpoint(self._record.path(LAST), weights_only=False)
            self._saved = time.monotonic()
            self._record.took("fit", self._saved - self._started)
            self._record.update(epochs=trainer.current_epoch, steps=trainer.global_step)
        if end is not None:
            raise end

    def _end_of(self, epochs: int) -> Exception | None:
        """What ends the training after so many epochs, if anything does."""
        try:
            is_asked = self._should_stop is not None and self._should_stop()
        except Pruned as pruned:
            return pruned
        return Interrupted(f"asked to stop after epoch {epochs}") if is_asked else None


class _StartOver(Exception):  # noqa: N818
    """Why a session cannot be continued."""


class _Broken(_StartOver):
    """A file of the record that cannot be read."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def _session(directory: Path, config: Mapping[str, Any], fingerprint: str) -> Session:
    result = _same_trial(directory, config, fingerprint, UNFINISHED)
    checkpoint = _load(directory / LAST)
    rows = [row for row in read_history(directory) if row["epoch"] < checkpoint["epoch"]]
    if len(rows) < (kept := checkpoint["session"].get("rows", 0)):  # older ones do not say
        raise _Broken(HISTORY, f"{HISTORY} has {len(rows)} of its {kept} rows")
    return Session(result, checkpoint["epoch"], checkpoint["session"]["best"])


def _same_trial(
    directory: Path, config: Mapping[str, Any], fingerprint: str, statuses: Collection[str]
) -> dict[str, Any]:
    """The result.json in `directory` if it is of this trial and has one of the statuses."""
    name = RESULT
    try:
        result = read_result(directory)
        name = CONFIG
        before = read_config(directory)
    except UserError as error:
        raise _Broken(name, str(error)) from error
    if result["status"] not in statuses:
        raise _StartOver(f"its trial is {result['status']}")
    changed = _differences(before, config)
    if changed:
        raise _StartOver(f"its config is another one ({'; '.join(changed)})")
    if result["data"]["fingerprint"] != fingerprint:
        raise _StartOver("its images have changed")
    return result


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise _StartOver("it was interrupted before its first checkpoint")
    try:
        checkpoint = read_checkpoint(path)
    except (OSError, ValueError) as error:
        raise _Broken(LAST, f"{path.name} is broken ({error})") from error
    missing = {"epoch", "session", "loops", "optimizer_states"} - checkpoint.keys()
    if missing:
        raise _Broken(LAST, f"{path.name} lacks {', '.join(sorted(missing))}")
    return checkpoint


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys that may change the result of a trial, with both values."""
    old, new = flat(relevant(before)), flat(relevant(json.loads(json.dumps(now))))
    return [
        f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, ...) != new.get(key, ...)
    ]
