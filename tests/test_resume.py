"""A trial that was interrupted and continued equals one that never was, bit for bit."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch

from experiments import building, resume
from experiments.errors import Interrupted, Paused, Pruned, UserError
from experiments.record import LAST, Record, read_config, read_history, read_result, reopen
from experiments.tracking.wandb import client as wandb_client
from experiments.tracking.wandb import run as wandb_run
from experiments.trial import Result, run_trial

Compose = Callable[..., dict[str, Any]]

EIGHT_EPOCHS = [
    "max_epochs=8",
    "trainer.validate_every=1",
    "trainer.device=cpu",
    "trainer.threads=1",
    "optimizer.warmup_steps=7",
]
SPOILT = ["objective=kl", "loss.scale=sum", "lr=5e-3"]
"""The units come alive: the KL grows a thousandfold, so that an early epoch is the best."""
PLATEAU = ["lr=3e-2", "optimizer.plateau_patience=0"]


SUICIDE = """
import json, os, pathlib, signal, sys
from pytorch_lightning.callbacks import Callback
from experiments import resume, trial

class Suicide(Callback):
    def on_train_batch_end(self, trainer, *rest):
        if trainer.current_epoch == 5 and rest[-1] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

resume.SAVE_SECONDS = 0.0
config = json.loads(pathlib.Path(sys.argv[1]).read_text())
trial.run_trial(config, sys.argv[2], in_sweep=True, resumable=True, callbacks=[Suicide()])
"""
"""A trial whose process kills itself in the middle of its sixth epoch."""


class Final(pl.Callback):
    """Keeps the state of everything that learns, at the end of training."""

    state: Any = None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.state = deepcopy(
            {
                "weights": module.state_dict(),
                "optimizer": trainer.optimizers[0].state_dict(),
                "schedules": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
            }
        )


class Killed(BaseException):
    """Ends the process as far as the trial can tell."""


class KillAt(pl.Callback):
    """Raises `Killed` in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any
    ) -> None:
        if trainer.current_epoch == self._epoch and rest[-1] == 2:
            raise Killed


class PruneImproved(pl.Callback):
    """Prunes after the first validation that is better than the very first."""

    _first: float | None = None
    _is_better = False

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        psnr = float(trainer.callback_metrics["val/psnr"])
        self._first = psnr if self._first is None else self._first
        self._is_better = psnr > self._first

    def should_stop(self) -> bool:
        if self._is_better:
            raise Pruned("worse than the median")
        return False


class PruneAt(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == self._epoch:
            raise Pruned("worse than the median")


def epochs_later(count: int) -> Callable[[], bool]:
    """A `should_stop` that says so at the end of the count-th epoch of a session."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) == count


def paused_after(epochs: int) -> Callable[[], bool]:
    """A `should_stop` that pauses a trial after so many epochs of a session."""
    asked = iter(range(1, 1000))

    def should_stop() -> bool:
        if next(asked) == epochs:
            raise Paused("not among the best")
        return False

    return should_stop


def interrupt(config: dict[str, Any], directory: Path, epochs: int) -> None:
    """Start or continue a trial and stop it after so many epochs."""
    with pytest.raises(Interrupted):
        session(config, directory, should_stop=epochs_later(epochs))
    assert read_result(directory)["status"] == "interrupted"


def session(config: dict[str, Any], directory: Path, **options: Any) -> Result:
    return run_trial(config, directory, in_sweep=True, resumable=True, **options)


def finish(config: dict[str, Any], directory: Path, **options: Any) -> dict[str, Any]:
    """Run a trial to its end; everything that must be the same however it came there."""
    final = Final()
    session(config, directory, callbacks=[final], **options)
    result = read_result(directory)
    assert result["status"] == "completed"
    assert not (directory / LAST).exists()
    best = torch.load(directory / result["checkpoint"], weights_only=True)
    return {
        "best": best["state_dict"],
        "best epoch": best["epoch"],
        "history": history(directory),
        "metrics": result["metrics"],
        "steps": (result["epochs"], result["steps"]),
        **final.state,
    }


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The trials' number of threads is not that of the tests to come."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """What `finish` gives for a config in an empty directory; each is run once."""
    found: dict[str, dict[str, Any]] = {}

    def run(config: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps(config)
        if key not in found:
            found[key] = finish(config, tmp_path_factory.mktemp("uninterrupted"))
        return found[key]

    return run


def history(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def assert_same(one: Any, other: Any) -> None:
    """Equal in every bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "stops"),
    [
        (PLATEAU, [1, 1]),
        (["optimizer.schedule=cosine"], [7]),
        (["optimizer.ema_decay=0.9", "lr=5e-3"], [4]),
        (["loss=ssim", "kl.warmup_epochs=5", *PLATEAU], [2]),
        (["data.flip=true", "data.crop=0.8", "data.jitter=0.3"], [3, 2]),
        ([*PLATEAU, "trainer.validate_every=3"], [2, 2]),
        ([*PLATEAU, "trainer.validate_every=3", "optimizer.ema_decay=0.5"], [7]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_a_continued_trial_equals_one_that_was_never_interrupted(
    tiny: Compose, tmp_path: Path, overrides: list[str], stops: list[int], uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS, *overrides)
    whole = uninterrupted(config)
    for epochs in stops:
        interrupt(config, tmp_path / "parts", epochs)
    assert_same(finish(config, tmp_path / "parts"), whole)


@pytest.mark.slow
def test_the_history_is_read_once_for_the_best_objective(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*EIGHT_EPOCHS, *SPOILT)  # whose first epochs are the best
    interrupt(config, tmp_path, 3)
    reads: list[int] = []
    history = Record.history

    def reading(record: Record) -> list[dict[str, Any]]:
        rows = history(record)
        reads.append(len(rows))
        return rows

    class Best(pl.Callback):
        seen: ClassVar[list[float]] = []

        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            self.seen.append(float(trainer.callback_metrics["objective"]))

    monkeypatch.setattr(Record, "history", reading)
    session(config, tmp_path, callbacks=[Best()])
    # When the session began, at its first validation, and for what is said at the end.
    assert reads.count(3) == 2, reads
    assert len(reads) <= 3, reads
    values = [row["val/kl"] for row in read_history(tmp_path)]
    assert Best.seen == pytest.approx([min(values[: n + 1]) for n in range(3, 8)])


@pytest.mark.slow
def test_the_plateau_reduces_the_rate_before_and_after_the_interruption(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS, *PLATEAU)
    interrupt(config, tmp_path / "record", 4)
    before = torch.load(tmp_path / "record" / LAST, weights_only=True)
    rate = before["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate < 3e-2
    after = finish(config, tmp_path / "record")
    assert after["optimizer"]["param_groups"][0]["lr"] < rate
    assert_same(after, uninterrupted(config))


@pytest.mark.slow
def test_the_plateau_steps_at_the_end_of_the_first_continued_epoch(
    tiny: Compose, tmp_path: Path
) -> None:
    config = tiny(*EIGHT_EPOCHS, *PLATEAU, "lr=1e-12", "optimizer.warmup_steps=0")
    interrupt(config, tmp_path / "record", 3)
    finish(config, tmp_path / "record")
    # Without progress every epoch but the first halves the rate; a row tells that of its epoch.
    rates = [row["lr"] for row in history(tmp_path / "record")]
    assert rates == pytest.approx([1e-12 / 2 ** max(0, epoch - 1) for epoch in range(8)])


@pytest.mark.slow
def test_early_stopping_counts_on_and_the_best_epoch_may_lie_before(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS, "max_epochs=50", "trainer.early_stopping_patience=4", *SPOILT)
    whole = uninterrupted(config)
    epochs, _ = whole["steps"]
    assert whole["best epoch"] < epochs - 2 < 48
    interrupt(config, tmp_path / "parts", epochs - 2)
    assert_same(finish(config, tmp_path / "parts"), whole)


@pytest.mark.slow
def test_a_killed_trial_goes_back_to_its_last_checkpoint(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS, "data.flip=true", "lr=5e-3")
    whole = uninterrupted(config)
    interrupt(config, tmp_path / "parts", 2)
    with pytest.raises(Killed):
        session(config, tmp_path / "parts", callbacks=[KillAt(5)])
    assert read_result(tmp_path / "parts")["status"] == "running"
    assert len(history(tmp_path / "parts")) == 5
    with (tmp_path / "parts" / "history.jsonl").open("a") as file:
        file.write('{"epoch": 5, "val/ps')
    assert_same(finish(config, tmp_path / "parts"), whole)


@pytest.mark.slow
def test_a_killed_trial_forgets_the_epochs_after_its_checkpoint(
    tiny: Compose, tmp_path: Path
) -> None:
    config = tiny(*EIGHT_EPOCHS, "lr=5e-3")
    interrupt(config, tmp_path, 2)
    with pytest.raises(Killed):
        session(config, tmp_path, callbacks=[KillAt(5)])
    with pytest.raises(Pruned):
        session(config, tmp_path, callbacks=[PruneAt(3)])
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3]
    assert torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["epoch"] <= 3


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [(signal.SIGTERM, "143", "by the system"), (signal.SIGINT, "130", "by the user")],
)
def test_a_signalled_trial_goes_back_to_its_last_checkpoint(
    tiny: Compose,
    tmp_path: Path,
    uninterrupted: Compose,
    number: signal.Signals,
    status: str,
    reason: str,
) -> None:
    class Signal(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            if trainer.current_epoch == 4:
                os.kill(os.getpid(), number)

    config = tiny(*EIGHT_EPOCHS)
    whole = uninterrupted(config)
    interrupt(config, tmp_path / "parts", 2)
    with pytest.raises(SystemExit, match=status):
        session(config, tmp_path / "parts", callbacks=[Signal()])
    ended = read_result(tmp_path / "parts")
    assert (ended["status"], ended["reason"]) == ("interrupted", reason)
    assert_same(finish(config, tmp_path / "parts"), whole)


@pytest.mark.slow
def test_a_continued_trial_continues_its_run_in_wandb(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[dict[str, Any]] = []
    start = wandb_run.start

    def spy(*arguments: Any, **named: Any) -> Any:
        options.append(named)
        return start(*arguments, **named)

    monkeypatch.setattr(wandb_run, "start", spy)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    config = tiny(*EIGHT_EPOCHS, "logger=wandb", "logger.log_images_every=3")
    interrupt(config, tmp_path / "record", 4)
    first = read_result(tmp_path / "record")["wandb"]
    with pytest.raises(Pruned):
        session(config, tmp_path / "record", callbacks=[PruneAt(6)])
    wandb_client.end_client()
    os.environ.pop("WANDB_SERVICE", None)
    second = read_result(tmp_path / "record")["wandb"]
    assert second["id"] == first["id"]
    assert second["directory"] != first["directory"]
    assert [(o["run_id"], o["log_model"]) for o in options] == [(None, False), (first["id"], False)]
    images = Path(second["directory"]) / "files" / "media" / "images"
    steps = {path.name.split("_")[1] for path in images.glob("samples_*")}
    assert len(steps) == 1  # of epoch 6; that of epoch 3 was in the first session


@pytest.mark.slow
def test_checkpoints_are_at_least_so_many_seconds_apart(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*EIGHT_EPOCHS)
    for seconds, saved in ((0.0, True), (1000.0, False)):
        monkeypatch.setattr(resume, "SAVE_SECONDS", seconds)
        with pytest.raises(Killed):
            session(config, tmp_path / str(saved), callbacks=[KillAt(5)])
        path = tmp_path / str(saved) / LAST
        assert path.exists() == saved
    assert torch.load(tmp_path / "True" / LAST, weights_only=True)["epoch"] == 5


@pytest.mark.slow
def test_a_process_killed_for_good_goes_back_to_its_last_checkpoint(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS, "lr=5e-3", "trainer.precision=32-true")
    whole = uninterrupted(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", SUICIDE, str(tmp_path / "config.json"), str(tmp_path / "parts")],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "parts" / LAST).exists()
    assert read_result(tmp_path / "parts")["status"] == "running"
    assert_same(finish(config, tmp_path / "parts"), whole)
    assert "resumed" in read_result(tmp_path / "parts")


@pytest.mark.slow
def test_the_record_of_a_continued_trial_adds_up(tiny: Compose, tmp_path: Path) -> None:
    config = tiny(*EIGHT_EPOCHS)
    directory = tmp_path / "record"
    interrupt(config, directory, 2)
    first = read_result(directory)
    assert (first["epochs"], first["reason"]) == (2, "asked to stop after epoch 2")
    interrupt(config, directory, 2)
    second = read_result(directory)
    session(config, directory)
    last = read_result(directory)
    assert last["started"] == second["started"] == first["started"]
    assert (len(second["resumed"]), len(last["resumed"])) == (1, 2)
    for name in ("total_seconds", "prepare_seconds", "fit_seconds"):
        assert first["timings"][name] < second["timings"][name] < last["timings"][name]
    images = last["steps"] * config["batch_size"]
    assert last["timings"]["images_per_second"] == pytest.approx(
        images / last["timings"]["fit_seconds"], rel=1e-3
    )
    assert [row["epoch"] for row in history(directory)] == list(range(8))


@pytest.mark.slow
def test_a_moved_record_is_continued_where_it_is(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS)
    whole = uninterrupted(config)
    interrupt(config, tmp_path / "here", 4)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert_same(finish(config, tmp_path / "there"), whole)
    assert not (tmp_path / "here").exists()


@pytest.mark.slow
def test_what_cannot_change_the_result_may_change(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config = tiny(*EIGHT_EPOCHS)
    whole = uninterrupted(config)
    interrupt(config, tmp_path / "parts", 4)
    other = ["logger=csv", "name=other", "trainer.profiler=simple", "trainer.threads=2"]
    assert_same(finish(tiny(*EIGHT_EPOCHS, *other), tmp_path / "parts"), whole)
    assert read_config(tmp_path / "parts")["name"] == "other"
    assert read_result(tmp_path / "parts")["hardware"]["threads"] == 1


@pytest.mark.slow
def test_rows_of_an_earlier_session_stay_in_its_csv(tiny: Compose, tmp_path: Path) -> None:
    config = tiny(*EIGHT_EPOCHS, "logger=csv")
    interrupt(config, tmp_path, 4)
    session(config, tmp_path)
    files = [tmp_path / "csv" / name for name in ("metrics.csv", "resumed-1/metrics.csv")]
    assert all("val/psnr" in file.read_text() for file in files)


def truncate(directory: Path) -> None:
    path = directory / LAST
    path.write_bytes(path.read_bytes()[:-1000])


def garble(directory: Path) -> None:
    (directory / LAST).write_bytes(b"not a checkpoint")


def zero(directory: Path) -> None:
    """Zero some bytes within a tensor, as a bad disk or a broken copy does."""
    path = directory / LAST
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    with path.open("r+b") as file:
        file.seek(largest.header_offset + largest.file_size // 2)
        file.write(bytes(256))


def remove(directory: Path) -> None:
    (directory / LAST).unlink()


def foreign(directory: Path) -> None:
    torch.save({"epoch": 3}, directory / LAST)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "overrides", "reason"),
    [
        (truncate, [], "last.ckpt is broken"),
        (garble, [], "last.ckpt is broken"),
        (foreign, [], "last.ckpt lacks"),
        (remove, [], "interrupted before its first checkpoint"),
        (None, ["lr=2e-3"], "lr was 0.001, is 0.002"),
        (None, ["loss=l1"], "loss.name was 'mse', is 'l1'"),
    ],
)
def test_a_trial_that_cannot_be_continued_starts_over_and_says_why(
    tiny: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None] | None,
    overrides: list[str],
    reason: str,
    uninterrupted: Compose,
) -> None:
    interrupt(tiny(*EIGHT_EPOCHS, "max_epochs=3"), tmp_path / "record", 2)
    if damage is not None:
        damage(tmp_path / "record")
    config = tiny(*EIGHT_EPOCHS, "max_epochs=3", *overrides)
    with caplog.at_level(logging.INFO):
        again = finish(config, tmp_path / "record")
    assert "starts over: " in caplog.text
    assert reason in caplog.text
    assert_same(again, uninterrupted(config))
    assert "resumed" not in read_result(tmp_path / "record")


def forgotten(directory: Path) -> None:
    (directory / "history.jsonl").unlink()


def emptied(directory: Path) -> None:
    (directory / "result.json").write_text("")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (garble, "checkpoints/last.ckpt"),
        (zero, "checkpoints/last.ckpt"),
        (foreign, "checkpoints/last.ckpt"),
        (emptied, "result.json"),
        (forgotten, "history.jsonl"),
    ],
)
def test_a_single_run_with_a_broken_file_is_told_which(
    tiny: Compose, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    config = tiny(*EIGHT_EPOCHS, "max_epochs=3")
    interrupt(config, tmp_path, 2)
    damage(tmp_path)
    rule, remedy = "must have left whole files", f"bring {name} back from a copy, give another"
    with pytest.raises(UserError, match=rf"{rule}.*{remedy}") as told:
        run_trial(config, tmp_path, resumable=True)
    assert "settings" not in str(told.value)
    assert (tmp_path / LAST).exists()


@pytest.mark.slow
def test_other_images_start_the_trial_over(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny(*EIGHT_EPOCHS)
    interrupt(config, tmp_path, 2)
    others = building.load(tiny(*EIGHT_EPOCHS, "data.generator_seed=1"))
    with caplog.at_level(logging.INFO):
        session(config, tmp_path, images=others)
    assert "starts over: its images have changed" in caplog.text
    assert read_result(tmp_path)["data"]["fingerprint"] == others.fingerprint


@pytest.mark.slow
def test_a_finished_trial_starts_over(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = finish(tiny(), tmp_path)
    with caplog.at_level(logging.INFO):
        assert_same(finish(tiny(), tmp_path), first)
    assert "starts over: its trial is completed" in caplog.text


def test_images_that_are_loaded_already_are_used(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    images = building.load(config)
    monkeypatch.delattr(building, "load")
    session(config, tmp_path, images=images)
    assert read_result(tmp_path)["data"]["fingerprint"] == images.fingerprint


@pytest.mark.parametrize("overrides", [[], ["optimizer.ema_decay=0.5"]])
def test_a_pruned_trial_keeps_the_best_epoch(
    tiny: Compose, tmp_path: Path, overrides: list[str]
) -> None:
    config = tiny(*EIGHT_EPOCHS, "lr=5e-3", *overrides)
    prune = PruneImproved()
    with pytest.raises(Pruned, match="worse than the median"):
        session(config, tmp_path, callbacks=[prune], should_stop=prune.should_stop)
    result, rows = read_result(tmp_path), history(tmp_path)
    assert (result["status"], result["reason"]) == ("pruned", "worse than the median")
    assert (result["epochs"], result["steps"]) == (len(rows), rows[-1]["step"])
    best = max(rows, key=lambda row: row["val/psnr"])
    assert best is rows[-1]  # the very epoch that was pruned
    values = {k.removeprefix("val/"): v for k, v in best.items() if k.startswith("val/")}
    assert result["metrics"] == {"val": values}
    kept = torch.load(tmp_path / result["checkpoint"], weights_only=True)
    assert kept["epoch"] == best["epoch"]
    assert not (tmp_path / LAST).exists()


@pytest.mark.slow
def test_a_paused_trial_goes_on_as_if_it_had_never_been(
    tiny: Compose, tmp_path: Path, uninterrupted: Compose
) -> None:
    config, directory = tiny(*EIGHT_EPOCHS), tmp_path / "parts"
    for epochs in (2, 3):
        with pytest.raises(Paused, match="not among the best"):
            session(config, directory, should_stop=paused_after(epochs))
        ended = read_result(directory)
        assert (ended["status"], ended["reason"]) == ("pruned", "not among the best")
        assert {"val"} == ended["metrics"].keys(), "it can be shown as it is"
        reopen(directory, ended["epochs"])
    assert_same(finish(config, directory), uninterrupted(config))
    assert len(read_result(directory)["resumed"]) == 2


def test_only_what_was_pruned_then_is_opened_again(tiny: Compose, tmp_path: Path) -> None:
    config = tiny(*EIGHT_EPOCHS)
    reopen(tmp_path / "nowhere", 2)
    assert not (tmp_path / "nowhere").exists(), "its record is on another machine"
    with pytest.raises(Paused):
        session(config, tmp_path, should_stop=paused_after(3))
    reopen(tmp_path, 2)
    assert read_result(tmp_path)["status"] == "pruned", "it was pruned again since"
    reopen(tmp_path, 3)
    assert read_result(tmp_path)["status"] == "interrupted"
    (tmp_path / LAST).unlink()
    assert len(finish(config, tmp_path)["history"]) == 8, "it begins anew without its checkpoint"


def test_a_trial_pruned_before_it_was_validated_has_no_metrics(
    tiny: Compose, tmp_path: Path
) -> None:
    class PruneEarly(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            raise Pruned("no time")

    with pytest.raises(Pruned):
        session(tiny(), tmp_path, callbacks=[PruneEarly()])
    result = read_result(tmp_path)
    assert (result["status"], result["metrics"]) == ("pruned", {})
    assert "checkpoint" not in result


def test_a_failed_trial_is_not_continued(tiny: Compose, tmp_path: Path) -> None:
    class Fail(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            if trainer.current_epoch == 4:
                raise RuntimeError("out of luck")

    config = tiny(*EIGHT_EPOCHS)
    interrupt(config, tmp_path, 2)
    with pytest.raises(RuntimeError, match="out of luck"):
        session(config, tmp_path, callbacks=[Fail()])
    assert read_result(tmp_path)["status"] == "failed"
    assert not (tmp_path / LAST).exists()


def test_a_trial_that_is_not_resumable_stops_without_a_checkpoint(
    tiny: Compose, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        run_trial(tiny(*EIGHT_EPOCHS), tmp_path, should_stop=lambda: True)
    assert read_result(tmp_path)["status"] == "interrupted"
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize("by_srun", [True, False])
def test_within_a_slurm_job_lightning_does_not_take_the_job_over(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_srun: bool
) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.touch(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "4"}
    if not by_srun:
        del environment["SLURM_NTASKS"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    handlers = {name: signal.getsignal(name) for name in (signal.SIGUSR1, signal.SIGTERM)}
    session(tiny(), tmp_path / "record")
    assert read_result(tmp_path / "record")["status"] == "completed"
    assert {name: signal.getsignal(name) for name in handlers} == handlers
