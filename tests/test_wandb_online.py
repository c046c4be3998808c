"""Trials whose runs go to a server, at once or later, by the real client and tools."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

import sweeps
from analysis.load import load
from experiments.errors import Interrupted, Pruned
from experiments.record import read_history, read_result
from experiments.sync import sync
from experiments.trial import run_trial
from tests.conftest import ROOT, TINY, Compose, isolated_wandb
from tests.waiting import PATIENCE
from tests.wandb_server import ENTITY, Run, WandbServer

pytestmark = pytest.mark.slow
ONLINE = ["logger=wandb", "name=cats", "logger.tags=[mine]", "trainer.validate_every=1"]
_VOLATILE = {"_runtime", "_timestamp", "_wandb", "_step"}


@pytest.fixture(autouse=True)
def _patience(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to be offline."""
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", str(PATIENCE))


class At(Callback):
    """Does things after the validations of certain epochs."""

    def __init__(self, **actions: Any) -> None:
        self._actions = {int(name.removeprefix("epoch")): do for name, do in actions.items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        action = self._actions.get(trainer.current_epoch)
        if action is not None:
            action()


def validations(directory: Path) -> list[tuple[int, float]]:
    """The last step before each and its PSNR, as the record has them."""
    return [(row["step"] - 1, row["val/psnr"]) for row in read_history(directory)]


def delivered(run: Run) -> list[tuple[int, float]]:
    """The same, as the server has them."""
    return run.metrics("trainer/global_step", "val/psnr")


def almost(rows: list[tuple[int, float]]) -> Any:
    """Lightning logs float32."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in rows]


def logged(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without the client's own clock and the paths of its files, in an order of our own.

    Those with pictures are written beside those of the training, before or after them.
    """
    kept = [
        {k: v for k, v in row.items() if k not in _VOLATILE and not isinstance(v, dict)}
        for row in rows
    ]
    return sorted(json.dumps(row, sort_keys=True) for row in kept)


def test_a_trial_is_the_same_on_the_server_at_once_and_later(
    tiny: Compose,
    wandb_server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(*ONLINE, "logger.log_model=true", "logger.log_images_every=1")
    now, later = tmp_path / "now", tmp_path / "later"
    run_trial(config, now, in_sweep=True)
    (run,) = wandb_server.runs.values()
    record = read_result(now)

    assert run.config == config
    assert (run.state, run.exit_code) == ("finished", 0)
    assert (run.group, run.tags) == ("cats", ["mse", "cats", "mine"])
    assert run.name == "mse z4 lr0.001 seed0"
    assert run.commit == record["code"]["commit"]
    assert record["wandb"]["url"] == f"{wandb_server.url}/{ENTITY}/vaesweep/runs/{run.id}"
    assert delivered(run) == almost(validations(now))
    assert run.summary["status"] == "completed"
    assert run.summary["final/val/psnr"] == record["metrics"]["val"]["psnr"]
    assert run.summary["objective"] == record["metrics"]["val"]["psnr"]
    best = max(psnr for _, psnr in validations(now))
    assert run.summary["val/psnr"] == {"max": pytest.approx(best, rel=1e-6)}
    (best_so_far,) = run.metrics("objective")[-1]
    assert best_so_far == pytest.approx(best, rel=1e-6)
    media = {key for row in run.rows for key, value in row.items() if isinstance(value, dict)}
    assert media == {"reconstructions", "samples", "sample_images"}
    assert len([name for name in run.files if name.startswith("media/images/")]) == 4

    model, table = sorted(wandb_server.artifacts, key=lambda a: str(a["artifactTypeName"]))
    assert (model["artifactTypeName"], model["committed"]) == ("model", True)
    (weights,) = (v for k, v in model["files"].items() if k.endswith(".ckpt"))
    assert weights == (now / "checkpoints" / "best.ckpt").read_bytes()
    assert table["artifactTypeName"] == "run_table"
    (name,) = (name for name in run.files if name.startswith("media/table/"))
    sample_images = json.loads(run.files[name])
    assert sample_images["columns"][:3] == ["image", "input", "reconstruction"]
    psnr = sample_images["columns"].index("psnr")
    assert len({row[0] for row in sample_images["data"]}) == len(sample_images["data"]) == 16
    assert all(math.isfinite(row[psnr]) for row in sample_images["data"])

    monkeypatch.setenv("WANDB_MODE", "offline")
    run_trial(config, later, in_sweep=True)
    assert len(wandb_server.runs) == 1
    monkeypatch.delenv("WANDB_MODE")
    assert sync([tmp_path], everything=False, seconds=PATIENCE) == (2, [])
    same = wandb_server.runs[read_result(later)["wandb"]["id"]]
    assert same.id != run.id
    assert (same.config, same.group, same.tags) == (run.config, run.group, run.tags)
    assert (same.commit, same.name, same.state) == (run.commit, run.name, run.state)
    assert logged(same.rows) == logged(run.rows)
    assert logged([same.summary]) == logged([run.summary])
    assert len(same.files) == len(run.files)
    assert [a["committed"] for a in wandb_server.artifacts] == [True] * 4
    assert read_result(later)["wandb"]["url"].endswith(f"/vaesweep/runs/{same.id}")

    _the_public_api_reads(wandb_server, run)
    _analysis_loads_what_the_records_say(tmp_path)


def _analysis_loads_what_the_records_say(records: Path) -> None:
    """Trials and histories are the same from W&B as from their records."""
    from_wandb, own = load(f"wandb://{ENTITY}/vaesweep"), load(records)
    assert from_wandb.broken == []
    assert len(from_wandb.trials) == len(own.trials) == 2
    scored = [column for column in own.trials if column.startswith("val/")]
    same = ["name", "seed", "status", "lr", "latent_dim", "loss.name", "data.name", "epochs"]
    for column in [*same, *scored]:
        assert list(from_wandb.trials[column]) == list(own.trials[column]), column
    columns = ["epoch", "step", "val/psnr", "val/ms_ssim", "val/kl"]
    rows = from_wandb.history[columns].to_numpy(float)
    assert rows == pytest.approx(own.history[columns].to_numpy(float), rel=1e-6)
    together = load(records, f"wandb://{ENTITY}/vaesweep")
    assert len(together.trials) == 2, "the same trial is one row"


def _the_public_api_reads(server: WandbServer, run: Run) -> None:
    """What `analysis` and the notebooks ask of `wandb.Api()`."""
    import wandb

    api = wandb.Api()
    first, _ = api.runs(f"{ENTITY}/vaesweep", filters={"group": "cats"})
    assert (first.id, first.config, first.tags) == (run.id, run.config, run.tags)
    assert first.summary["val/psnr"]["max"] == run.summary["val/psnr"]["max"]
    keys = ["trainer/global_step", "val/psnr"]
    assert [tuple(row[k] for k in keys) for row in first.scan_history(keys)] == delivered(run)
    assert len(list(first.scan_history())) == len(first.history(pandas=False)) == len(run.rows)
    assert list(api.runs(f"{ENTITY}/vaesweep", filters={"group": "dogs"})) == []
    assert api.run(f"{ENTITY}/vaesweep/{run.id}").state == "finished"


def test_a_server_that_goes_away_costs_no_row(
    tiny: Compose, wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL"):  # the client would wait for minutes
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_WAIT_MAX_SECONDS", "1")
    config = tiny(*ONLINE, "max_epochs=6")
    back = At(epoch1=wandb_server.stop, epoch4=wandb_server.start)
    run_trial(config, tmp_path / "back", in_sweep=True, callbacks=[back])
    (run,) = wandb_server.runs.values()
    assert delivered(run) == almost(validations(tmp_path / "back"))
    assert run.summary["status"] == "completed"

    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    away = tmp_path / "away"
    run_trial(config, away, in_sweep=True, callbacks=[At(epoch1=wandb_server.stop)])
    assert read_result(away)["status"] == "completed"
    count, left = sync([tmp_path], everything=False, seconds=PATIENCE)
    assert count == 2
    assert "refuses the connection" in left[0].reason
    wandb_server.start()
    assert sync([tmp_path], everything=False, seconds=PATIENCE) == (2, [])
    run = wandb_server.runs[read_result(away)["wandb"]["id"]]
    assert delivered(run) == almost(validations(away))
    assert run.summary["status"] == "completed"


def test_trials_that_are_continued_or_begun_again_keep_their_run(
    tiny: Compose, wandb_server: WandbServer, tmp_path: Path
) -> None:
    config = tiny(*ONLINE, "max_epochs=4")

    def stop_once() -> Iterator[bool]:
        yield True
        while True:
            yield False

    for name, begun_again in (("continued", False), ("again", True)):
        directory, answers = tmp_path / name, stop_once()
        with pytest.raises(Interrupted):
            run_trial(
                config,
                directory,
                in_sweep=True,
                resumable=True,
                should_stop=lambda answers=answers: next(answers),  # type: ignore[misc]
            )
        run = wandb_server.runs[read_result(directory)["wandb"]["id"]]
        assert (run.summary["status"], run.state) == ("interrupted", "failed")
        before = delivered(run)
        if begun_again:
            (directory / "checkpoints" / "last.ckpt").unlink()
        run_trial(config, directory, in_sweep=True, resumable=True)
        assert read_result(directory)["wandb"]["id"] == run.id
        assert (run.summary["status"], run.state) == ("completed", "finished")
        expected = almost(validations(directory))
        assert delivered(run) == (before + expected if begun_again else expected)
    assert len(wandb_server.runs) == 2


def test_a_pruned_and_a_failed_trial_say_so(
    tiny: Compose, wandb_server: WandbServer, tmp_path: Path
) -> None:
    def prune() -> None:
        raise Pruned("worse than half of the others")

    def fail() -> None:
        raise RuntimeError("out of luck")

    for name, action, error in (("pruned", prune, Pruned), ("failed", fail, RuntimeError)):
        with pytest.raises(error):
            run_trial(tiny(*ONLINE, f"name={name}"), tmp_path / name, callbacks=[At(epoch0=action)])
    pruned, failed = wandb_server.runs.values()
    assert (pruned.group, pruned.summary["status"], pruned.exit_code) == ("pruned", "pruned", 0)
    assert pruned.summary["reason"] == "worse than half of the others"
    assert (failed.group, failed.summary["status"], failed.exit_code) == ("failed", "failed", 1)
    assert failed.summary["reason"] == "RuntimeError: out of luck"


@pytest.mark.trains
def test_a_run_that_is_stopped_at_wandb_costs_its_sweep_no_other_trial(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.lib.run_stopping import RunStopChecker

    monkeypatch.chdir(tmp_path)
    defaults = RunStopChecker.__init__.__kwdefaults__
    assert defaults
    monkeypatch.setitem(defaults, "poll_interval", 0.5)  # not 15 s
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")

    def stop_the_first() -> None:
        wandb_server.wait_for(lambda: any(map(delivered, wandb_server.runs.values())))
        wandb_server.press_stop(next(iter(wandb_server.runs.values())))

    with ThreadPoolExecutor(1) as person:
        pressed = person.submit(stop_the_first)
        sweep = sweeps.run(
            [*TINY, *ONLINE, "max_epochs=100000,2", "hydra.sweeper.n_jobs=0", "report=none",
             "trainer.early_stopping_patience=null"]
        )  # fmt: skip
        pressed.result()
    assert [trial.state.name for trial in sweep.study.trials] == ["PRUNED", "COMPLETE"]
    record = read_result(sweep.directory / "0")
    assert (record["status"], record["reason"]) == ("pruned", "stopped at W&B")
    assert sweep.study.trials[0].user_attrs["reason"] == "stopped at W&B"
    stopped, other = wandb_server.runs.values()
    assert (stopped.summary["status"], stopped.summary["reason"]) == ("pruned", "stopped at W&B")
    assert delivered(stopped) == almost(validations(sweep.directory / "0"))
    assert other.summary["status"] == "completed"


def test_a_trial_without_a_run_is_logged_from_its_record(
    tiny: Compose, wandb_server: WandbServer, tmp_path: Path
) -> None:
    config = tiny("name=later")
    run_trial(config, tmp_path / "t", in_sweep=True)
    assert sync([tmp_path], everything=False, seconds=PATIENCE) == (0, [])
    assert sync([tmp_path], everything=True, seconds=PATIENCE) == (1, [])
    (run,) = wandb_server.runs.values()
    record = read_result(tmp_path / "t")
    assert record["wandb"]["id"] == run.id
    assert (run.config, run.group, run.summary["status"]) == (config, "later", "completed")
    assert delivered(run) == almost(validations(tmp_path / "t"))
    assert run.summary["final/val/psnr"] == record["metrics"]["val"]["psnr"]
    assert len([name for name in run.files if name.startswith("media/images/")]) == 2


def test_what_a_killed_process_had_not_sent_comes_from_its_record(
    wandb_server: WandbServer, tmp_path: Path, wandb_home: Path
) -> None:
    endless = ["max_epochs=100000", "trainer.early_stopping_patience=null"]
    environment = isolated_wandb(wandb_home) | wandb_server.environment
    with subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *TINY, *ONLINE, *endless],
        cwd=tmp_path,
        env=environment | {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"},
    ) as process:
        try:
            wandb_server.wait_for(lambda: any(map(delivered, wandb_server.runs.values())))
        finally:
            process.kill()
    (result,) = tmp_path.rglob("result.json")
    directory = result.parent
    assert "moment ago" in sync([directory], everything=False, seconds=PATIENCE)[1][0].reason
    for file in directory.rglob("*"):
        os.utime(file, (0, 0))
    assert sync([directory], everything=False, seconds=PATIENCE) == (1, [])
    (run,) = wandb_server.runs.values()
    assert dict(delivered(run)) == pytest.approx(dict(validations(directory)), rel=1e-6)
    assert (run.summary["status"], run.summary["reason"]) == ("interrupted", "its process died")
    assert read_result(directory)["status"] == "running"
