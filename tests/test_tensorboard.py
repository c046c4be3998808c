"""TensorBoard's own reader finds in a trial's event files what its record says."""

from __future__ import annotations

import errno
import importlib.util
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image

import sweeps
from experiments import resume
from experiments.errors import Superseded, UserError
from experiments.record import LAST, read_history, read_result
from experiments.record.fence import Fence, Owner, _Files, owning
from experiments.trial import run_trial
from tests.conftest import TINY, Compose

pytestmark = pytest.mark.trains
INSTALLED = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not INSTALLED, reason="tensorboard is not installed")
LOGGED = ["logger=tensorboard", "logger.log_images_every=1", "trainer.validate_every=1"]


def events(directory: Path) -> Any:
    """What TensorBoard shows of a trial."""
    from tensorboard.backend.event_processing.event_accumulator import (
        IMAGES,
        SCALARS,
        EventAccumulator,
    )

    found = EventAccumulator(str(directory / "tensorboard"), {SCALARS: 0, IMAGES: 0})
    return found.Reload()


def steps(found: Any, name: str) -> list[int]:
    return [event.step for event in found.Scalars(name)]


class Killed(BaseException):
    """Ends the process as far as the trial can tell."""


class KillLater(pl.Callback):
    """Raises `Killed` when two epochs are trained after the last of the checkpoints."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        patch.setattr(resume, "SAVE_SECONDS", 0.0)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            self._patch.setattr(resume, "SAVE_SECONDS", math.inf)
        if trainer.current_epoch == 4:
            raise Killed


@needs_tensorboard
def test_a_trials_metrics_pictures_and_parameters_are_shown(tiny: Compose, tmp_path: Path) -> None:
    run_trial(tiny(*LOGGED, "lr=3e-4"), tmp_path, in_sweep=True)
    found, result = events(tmp_path), read_result(tmp_path)
    for row in read_history(tmp_path):
        at = {event.step: event.value for event in found.Scalars("val/psnr")}
        assert at[row["step"] - 1] == pytest.approx(row["val/psnr"], rel=1e-6)
    assert len(steps(found, "train/loss")) == 2
    (reached,) = found.Scalars("final/val/psnr")
    assert reached.value == pytest.approx(result["metrics"]["val"]["psnr"], rel=1e-6)
    for name in ("reconstructions", "samples"):
        pictures = found.Images(name)
        assert [picture.step for picture in pictures] == steps(found, "val/psnr")
        shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
        assert shown.std() > 0
    said = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"loss.name" in said
    assert np.float64(3e-4).tobytes() in said


@needs_tensorboard
def test_a_trial_that_goes_on_shows_each_step_once(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*LOGGED, "max_epochs=6")
    run_trial(config, tmp_path / "whole", in_sweep=True)
    parts = tmp_path / "parts"
    killing = [KillLater(monkeypatch)]
    with pytest.raises(Killed):
        run_trial(config, parts, in_sweep=True, resumable=True, callbacks=killing)
    assert (parts / LAST).exists()
    assert len(steps(events(parts), "val/psnr")) == 4
    run_trial(config, parts, in_sweep=True, resumable=True)
    assert read_result(parts)["resumed"]
    found, whole = events(parts), events(tmp_path / "whole")
    assert len(list((parts / "tensorboard").iterdir())) == 2
    for name in ("val/psnr", "train/loss", "objective", "final/val/psnr"):
        assert steps(found, name) == steps(whole, name)
    assert len({picture.step for picture in found.Images("samples")}) == 6


@needs_tensorboard
def test_a_trial_that_begins_again_leaves_nothing_of_the_earlier_one(
    tiny: Compose, tmp_path: Path
) -> None:
    for seed in (0, 1):
        config = tiny(*LOGGED, f"seed={seed}")
        run_trial(config, tmp_path, in_sweep=True, resumable=True)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@needs_tensorboard
def test_each_trial_of_a_sweep_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweeps.run(["name=board", *TINY, *LOGGED, "hydra.sweeper.n_jobs=0", "seed=0,1"])
    for number in ("0", "1"):
        directory = tmp_path / "outputs/board/sweep" / number
        assert len(steps(events(directory), "val/psnr")) == 2


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@needs_tensorboard
@pytest.mark.parametrize(
    "write",
    [
        lambda logger: logger.log_metrics({"val/psnr": 1.0}, 9),
        lambda logger: logger.log_hyperparams({"lr": 1.0}, {"final/val/psnr": 1.0}, 9),
        lambda logger: logger.log_pictures({"samples": np.zeros((8, 8, 3), np.uint8)}, 9),
    ],
    ids=["metrics", "hyper-parameters", "pictures"],
)
def test_whoever_lost_a_trial_writes_no_event(write: Callable[[Any], None], tmp_path: Path) -> None:
    from experiments.tracking.tensorboard_logger import FencedTensorBoardLogger

    with owning(tmp_path, Owner(3, "sleeper")):
        logger = FencedTensorBoardLogger(
            tmp_path, name="tensorboard", version="", default_hp_metric=False
        )
        logger.log_metrics({"val/psnr": 1.0}, 1)
        Fence(_Files(tmp_path), Owner(5, "successor")).take()
        before = contents(tmp_path / "tensorboard")
        with pytest.raises(Superseded):
            write(logger)
        logger.experiment.close()
        assert contents(tmp_path / "tensorboard") == before


@needs_tensorboard
def test_a_result_is_not_lost_since_its_end_cannot_be_shown(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    from pytorch_lightning.loggers import TensorBoardLogger

    monkeypatch.setattr(TensorBoardLogger, "log_hyperparams", full)
    run_trial(tiny(*LOGGED, "max_epochs=1"), tmp_path, in_sweep=True)
    assert read_result(tmp_path)["status"] == "completed"
    assert "the end of the trial is not written" in caplog.text


def test_without_the_package_the_message_says_what_to_install(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.tracking.tensorboard_logger.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs the package tensorboard, .*\[tensorboard\]"):
        run_trial(tiny("logger=tensorboard"), tmp_path / "record")
    assert not (tmp_path / "record").exists()
