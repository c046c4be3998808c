"""One trial on several processes: equal to one process, one record, one end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from experiments import building, resume
from experiments.errors import DiskFullError, Pruned, TrialError, UserError
from experiments.machine import device as devices
from experiments.ranks.environment import Place, place
from experiments.ranks.heartbeat import Heartbeat
from experiments.ranks.rendezvous import rendezvous
from experiments.record import LAST, read_history, read_result
from experiments.trial import run_trial
from tests.conftest import TINY
from tests.waiting import PATIENCE, wait_until

Compose = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[1]
FLOAT32 = ["trainer.precision=32-true", "trainer.threads=1"]
COMMAND = [sys.executable, str(ROOT / "run.py"), *TINY, *FLOAT32]


def worker_ranks() -> list[psutil.Process]:
    """The processes that this one's trials have started."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "experiments.ranks" in child.cmdline()]


def weights(record: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(record / "checkpoints/best.ckpt", weights_only=True)
    return state["state_dict"]  # type: ignore[return-value]


def assert_alike(one: Path, other: Path) -> None:
    """Whether two trials are the same, but for rounding in float32."""
    rows, others = read_history(one), read_history(other)
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in others]
    for row, again in zip(rows, others, strict=True):
        assert again == pytest.approx(row, rel=1e-5, abs=1e-6)
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-5, msg=name)
    result, again = read_result(one), read_result(other)
    assert again["epochs"] == result["epochs"]
    for split, metrics in result["metrics"].items():
        assert again["metrics"][split] == pytest.approx(metrics, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "overrides"),
    [
        # 18 validation images: two each and two more; the last batch of 18 rows is uneven too.
        (4, ["loss=ssim", "batch_size=18", "data.flip=true", "data.crop=0.8", "data.jitter=0.1"]),
        (2, ["batch_size=17", "kl.warmup_epochs=1", "kl.free_bits=0.01",
             "optimizer.ema_decay=0.5"]),
    ],
)  # fmt: skip
def test_several_processes_train_what_one_does(
    tiny: Compose, tmp_path: Path, processes: int, overrides: list[str]
) -> None:
    overrides = [*overrides, *FLOAT32, "max_epochs=3", "trainer.validate_every=1"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    run_trial(tiny(*overrides), alone)
    run_trial(tiny(*overrides, f"trainer.devices={processes}", "trainer.strategy=ddp"), together)
    assert_alike(alone, together)
    assert read_result(together)["hardware"]["processes"] == processes
    assert worker_ranks() == []


class Once(Callback):
    """Does something at the end of an epoch."""

    def __init__(self, epoch: int, action: Callable[[], None]) -> None:
        self._epoch, self._action = epoch, action

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self._epoch:
            self._action()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill_another() -> None:
    worker_ranks()[0].kill()


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_trial_that_loses_a_process_is_continued_to_the_same_end(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    overrides = ["data.flip=true", "max_epochs=6", "trainer.validate_every=1", *FLOAT32]
    config, parts = tiny(*overrides, "trainer.devices=2"), tmp_path / "parts"

    with pytest.raises(SystemExit, match="130"):
        run_trial(config, parts, resumable=True, callbacks=[Once(2, interrupt)])
    assert (read_result(parts)["reason"], worker_ranks()) == ("by the user", [])

    # No word of going on: `record.single` says how, where there is a checkpoint.
    with pytest.raises(UserError, match=r"number 1 .* is lost: signal 9 ended it$"):
        run_trial(config, parts, resumable=True, callbacks=[Once(4, kill_another)])
    assert (read_result(parts)["status"], worker_ranks()) == ("interrupted", [])
    assert (parts / LAST).exists()

    run_trial(config, parts, resumable=True)
    assert len(read_result(parts)["resumed"]) == 2
    run_trial(tiny(*overrides), tmp_path / "whole")
    assert_alike(tmp_path / "whole", parts)


@pytest.mark.slow
def test_pruning_ends_all_processes(tiny: Compose, tmp_path: Path) -> None:
    def prune() -> None:
        raise Pruned("not among the best")

    with pytest.raises(Pruned):
        run_trial(tiny("trainer.devices=2"), tmp_path / "record", callbacks=[Once(0, prune)])
    assert (read_result(tmp_path / "record")["status"], worker_ranks()) == ("pruned", [])


@pytest.mark.slow
def test_what_is_wrong_with_another_process_is_said_by_the_first(
    tiny: Compose, tmp_path: Path
) -> None:
    config = tiny("trainer.devices=2")
    images = dataclasses.replace(building.load(config), fingerprint="another")
    with pytest.raises(
        TrialError, match=r"process 1 of 2 failed: all processes .* the same images"
    ):
        run_trial(config, tmp_path / "record", images=images)
    assert worker_ranks() == []


@pytest.mark.slow
@pytest.mark.trains
def test_nothing_keeps_running_when_the_command_is_killed(tmp_path: Path) -> None:
    endless = ["trainer.devices=2", "max_epochs=100000", "trainer.early_stopping_patience=null"]
    with subprocess.Popen([*COMMAND, *endless], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            history = lambda: bool(list(tmp_path.rglob("history.jsonl")))  # noqa: E731
            wait_until(history, process, process.communicate)
            (other,) = psutil.Process(process.pid).children()
        finally:
            process.kill()
    assert psutil.wait_procs([other], timeout=PATIENCE)[1] == []


STARTS_ANOTHER = """
import sys, time
from experiments.ranks.process_group import _start
from experiments.ranks.environment import Place
print(_start(Place(0, 2, 0, "127.0.0.1", int(sys.argv[1]), "a test"), 1).pid, flush=True)
time.sleep(1e6)
"""


@pytest.mark.parametrize("has_called", [False, True])
def test_a_process_that_is_still_starting_ends_with_the_command(has_called: bool) -> None:
    waits = {"VAESWEEP_WAITS": "1000"}  # what it waits for by itself ends after the test
    with socket.create_server(("127.0.0.1", 0)) as rendezvous, subprocess.Popen(
        [sys.executable, "-c", STARTS_ANOTHER, str(rendezvous.getsockname()[1])],
        cwd=ROOT, env=os.environ | waits, stdout=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        other = psutil.Process(int(command.stdout.readline()))
        if has_called:
            rendezvous.settimeout(PATIENCE)
            rendezvous.accept()[0].close()
        command.kill()
    try:  # nobody answers it any more
        assert psutil.wait_procs([other], timeout=PATIENCE)[1] == []
    finally:
        with suppress(psutil.NoSuchProcess):
            other.kill()


SERVES_THE_STORE = """
import time
from experiments.ranks.environment import Place
from experiments.ranks.rendezvous import rendezvous
store = rendezvous(Place(0, 2, 0, "127.0.0.1", 0, "a test"))
print(store.underlying_store.port, flush=True)
time.sleep(1e6)
"""


def test_a_process_whose_first_one_falls_silent_with_the_store_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAESWEEP_WAITS", "0.02")
    monkeypatch.setattr(Heartbeat, "_leave", lambda self: None)
    with subprocess.Popen(
        [sys.executable, "-c", SERVES_THE_STORE], cwd=ROOT, stdout=subprocess.PIPE,
        env=os.environ | {"VAESWEEP_WAITS": "1"},
    ) as first:  # fmt: skip
        try:
            assert first.stdout is not None
            port = int(first.stdout.readline())
            heartbeat = Heartbeat(rendezvous(Place(1, 2, 1, "127.0.0.1", port, "a test")), 1, 2)
            heartbeat.start()
            first.send_signal(signal.SIGSTOP)
            assert heartbeat.noticed.wait(PATIENCE)
        finally:
            first.kill()
    assert "number 0 (from 0) is lost: it is silent for 1.2 s" in str(heartbeat.failure)
    heartbeat.join(PATIENCE)


@pytest.mark.parametrize(("said", "kind"), [("full", DiskFullError), ("error", TrialError)])
def test_the_first_process_hears_how_another_failed(said: str, kind: type[UserError]) -> None:
    store = rendezvous(Place(0, 2, 0, "127.0.0.1", 0, "a test"))
    store.set(said, "process 1 of 2 failed: oh")
    failure = Heartbeat(store, 0, 2)._look()
    assert (type(failure), str(failure)) == (kind, "process 1 of 2 failed: oh")


def launch(processes: int, *overrides: str, cwd: Path) -> list[subprocess.Popen[str]]:
    """The processes of a command, as `srun` starts them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    step = {"SLURM_STEP_NUM_TASKS": str(processes), "SLURM_STEP_NODELIST": "localhost"}
    step |= {"MASTER_PORT": port, "SLURM_JOB_ID": "7"}
    return [
        subprocess.Popen(
            [*COMMAND, *overrides], cwd=cwd, env=os.environ | step | {"SLURM_PROCID": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit status and standard error of each."""
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.slow
@pytest.mark.trains
def test_an_interrupted_trial_says_what_its_launcher_needs_to_continue_it(tmp_path: Path) -> None:
    arguments = ["trainer.nodes=2", "max_epochs=100000", "trainer.early_stopping_patience=null"]

    def is_saved(status: str) -> bool:
        results = [path.read_text() for path in tmp_path.rglob("result.json")]
        return any(tmp_path.rglob("last.ckpt")) and any(status in text for text in results)

    for status in ("running", "resumed"):
        first, second = launch(2, *arguments, cwd=tmp_path)
        try:
            wait_until(partial(is_saved, status), first, first.communicate)
            first.terminate()
            (code, said), (_, silence) = ended([first, second])
        finally:
            first.kill()
            second.kill()
        assert (code, silence) == (143, "")
        found = re.search("to continue, start run.py by srun as before, but with (.*)", said)
        assert found is not None
        arguments = [text for text in shlex.split(found[1]) if text not in COMMAND]
    assert len(list(tmp_path.rglob("result.json"))) == 1


@pytest.mark.slow
@pytest.mark.trains
def test_torchruns_processes_train_one_trial(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, *COMMAND[1:], "trainer.devices=2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = (path.parent for path in tmp_path.rglob("result.json"))
    assert (read_result(record)["status"], len(list(tmp_path.rglob("run.log")))) == ("completed", 1)
    assert done.stdout.count("metric") == 1


@pytest.mark.slow
def test_another_number_of_processes_than_the_config_says_is_refused(tmp_path: Path) -> None:
    (first, message), (second, silence) = ended(launch(2, cwd=tmp_path))
    assert (first, second, silence) == (2, 2, "")
    assert "that srun starts for the trial, 2, but got 1 x 1; give trainer.devices=2" in message
    assert "Traceback" not in message
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=0"], "`trainer.devices` must be an integer of 1 or more"),
        (["trainer.strategy=fsdp"], "`trainer.strategy` must be one of auto, ddp"),
        (["trainer.devices=3", "batch_size=2"], r"trainer.devices x trainer.nodes = 3, or more, .*"
            "but got 2; raise it or lower"),
        (["trainer.nodes=2"], "but got 2; start the command by torchrun or srun"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    tiny: Compose, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_trial(tiny(*overrides), tmp_path / "record")
    assert not (tmp_path / "record").exists()


TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
SRUN = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({**TORCHRUN, "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "a"),
        ({**SRUN, "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "12345678"}, "gpu07"),
        (TORCHRUN, None),  # left over from another program
        ({**TORCHRUN, "MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None),  # a batch script
        ({}, None),
    ],
)
def test_the_environment_says_whether_there_are_others(
    environment: dict[str, str], host: str | None
) -> None:
    found = place(environment)
    assert (None if found is None else found.host) == host
    assert found is None or (found.rank, found.local_rank, found.world) == (3, 1, 4)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_gpus(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    with_gpus(4)
    assert [devices.of_rank("auto", rank) for rank in range(4)] == [f"cuda:{i}" for i in range(4)]
    assert devices.of_rank("cuda:2", 1, last=1) == "cuda:3"
    assert devices.of_rank("cpu", 7, last=7) == "cpu"
    with pytest.raises(UserError, match="number of GPUs from cuda:2 on, 2, but got 3"):
        devices.of_rank("cuda:2", 0, last=2)
    with_gpus(1)  # the launcher gives each process its own
    assert devices.of_rank("auto", 3) == "cuda:0"
    with pytest.raises(UserError, match="number of GPUs from cuda:0 on, 1, but got 2"):
        devices.of_rank("auto", 0, last=1)


@pytest.mark.slow
@pytest.mark.trains
def test_a_sweeps_trials_may_have_several_processes(tmp_path: Path) -> None:
    sweep = ["-m", "trainer.devices=2", "loss=mse,l1", "hydra.sweeper.n_jobs=1", "report=none"]
    done = subprocess.run(
        [*COMMAND, *sweep], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert [(r["status"], r["hardware"]["processes"]) for r in found] == [("completed", 2)] * 2


def test_workers_have_groups_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.workers import resources

    assert [resources.device_of(worker, 5, 2) for worker in range(4)] == ["cuda:0", "cuda:2"] * 2
    assert [resources.processes_per_trial(*n) for n in ((1, 1), (4, 1), (1, 2), (2, 2))] == [
        1, 4, 2, 2,
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"must be `trainer\.devices` .* got 4 and 2"):
        resources.processes_per_trial(4, 2)
    resources.check_gpus(2, 5, 1, 2)
    with pytest.raises(UserError, match=r"at most 2 with 5 GPUs in groups of 2 and .* but got 3"):
        resources.check_gpus(3, 5, 1, 2)
    with pytest.raises(UserError, match="number of this machine's GPUs, 2, but got 4"):
        resources.check_gpus(1, 2, 1, 4)
    monkeypatch.setattr(resources, "visible_gpus", lambda: 8)
    usual: dict[str, Any] = {
        "trials": None,
        "repeatable": False,
        "trials_per_gpu": 1,
        "gpus_per_trial": 4,
    }
    assert resources.usual_workers({"device": "auto", "threads": None}, **usual) == 2


@pytest.mark.parametrize(
    ("launcher", "where"),
    [("submitit_slurm", "gpus_per_node"), ("ray", "ray.remote.num_gpus")],
)
def test_launchers_ask_for_the_gpus_of_a_trial(launcher: str, where: str) -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    from sweeps.settings import Settings
    from sweeps.workers import launchers

    Plugins.instance()
    if f"{launcher}.yaml" not in ConfigStore.instance().repo["hydra"]["launcher"]:
        pytest.skip(f"needs hydra's launcher {launcher}")
    node = OmegaConf.to_container(
        OmegaConf.create(ConfigStore.instance().repo["hydra"]["launcher"][f"{launcher}.yaml"].node),
        resolve=False,
    )
    config = OmegaConf.create(
        {"hydra": {"launcher": node, "overrides": {"hydra": [], "task": []}, "job": {"name": "a"},
                   "sweep": {"dir": "b"}}}
    )  # fmt: skip
    OmegaConf.set_struct(config, True)
    plan: Any = SimpleNamespace(
        settings=Settings(gpus_per_trial=4), on_one_machine=False, workers=2, session="s"
    )
    assert OmegaConf.select(launchers.configured(config, plan).hydra.launcher, where) == 4
