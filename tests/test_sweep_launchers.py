"""Sweeps whose workers are jobs of Hydra's launchers: what is killed, interrupted or queued.

Each sweep is a command of its own, in a process group of its own, as in a terminal.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

import sweeps
from experiments.errors import DiskFullError, UserError
from experiments.machine.cores import cores
from sweeps.storage.opening import open_storage
from sweeps.study.definition import load_study
from sweeps.workers import launch, launchers
from tests.conftest import ROOT, TINY
from tests.simulated import SimulatedTask
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
import sweeps
from experiments.terminal import errors_for_people
from tests.simulated import SimulatedTask

if __name__ == "__main__":
    with errors_for_people():
        sweeps.run(sys.argv[1:], task=SimulatedTask(**{task}))
"""
GRID = ["loss=ssim,mse", "lr=1e-3,3e-4"]
SMALL = [*TINY, "report=none"]
NOISE = re.compile("[Ll]aunch|Warning|WARNING|Ray|Submitit|lost")
"""What a launcher would say, where only the command speaks."""


def launcher(name: str, package: str) -> Any:
    missing = importlib.util.find_spec(f"hydra_plugins.hydra_{package}_launcher") is None
    reason = f"needs hydra-{package}-launcher"
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=reason))


JOBLIB = launcher("joblib", "joblib")
RAY = launcher("ray", "ray")
SUBMITIT = launcher("submitit_local", "submitit")
quick_launchers = pytest.mark.parametrize("name", [JOBLIB, SUBMITIT])


@dataclass(frozen=True)
class Sweeping:
    """A sweep in a directory, as a command that runs or has ended."""

    directory: Path
    process: subprocess.Popen[str]

    def end(self) -> str:
        """What it has printed when it ended."""
        return self.process.communicate(timeout=PATIENCE)[0]

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def log(self) -> list[list[str]]:
        path = self.directory / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, holds: Callable[[], bool]) -> None:
        wait_until(holds, self.process, self.end)

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        path = self.directory / "outputs" / "vae" / "sweep" / "study.db"
        return load_study(open_storage(None, path), "vae").get_trials()

    def states(self) -> Counter[str]:
        return Counter(trial.state.name for trial in self.trials())

    def processes(self) -> list[str]:
        """Those that the command has started and that still live; they inherit its mark."""
        mark = f"MARK={self.directory}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it has just ended, or is another user's
                continue
        return found

    def is_all_gone(self) -> bool:
        """Whether they all end; those that were told to may take their time."""
        deadline = time.monotonic() + PATIENCE
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.processes() == []


Start = Callable[..., Sweeping]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a sweep by two workers, of simulated trials unless `script` says otherwise."""
    started: list[Sweeping] = []
    home = tmp_path / "home"
    home.mkdir()

    def start_sweep(*overrides: str, script: Path | None = None, **task: Any) -> Sweeping:
        arguments = [*overrides, "hydra.sweeper.n_jobs=2"]
        if script is None:
            script = tmp_path / "simulated_sweep.py"
            task = {"log": str(tmp_path / "log"), **task}
            script.write_text(SCRIPT.format(task=task))
        env = {**os.environ, "MARK": str(tmp_path), "HOME": str(home)}
        if "hydra/launcher=ray" in overrides:
            env.pop("COVERAGE_PROCESS_CONFIG", None)  # Ray's own processes start too late with it
        # The workers find our packages by themselves, but this script does not.
        env["PYTHONPATH"] = "" if script.name == "run.py" else str(ROOT)
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(Sweeping(tmp_path, process))
        return started[-1]

    yield start_sweep
    for sweep in started:
        if sweep.process.poll() is None:
            os.killpg(sweep.process.pid, signal.SIGKILL)
            sweep.end()


@quick_launchers
def test_each_trial_runs_once_and_the_command_alone_speaks(start: Start, name: str) -> None:
    sweep = start(f"hydra/launcher={name}", *GRID, seconds=0.2)
    printed = sweep.end()
    assert sweep.process.returncode == 0, printed
    begun = [" ".join(words[2:]) for words in sweep.log() if words[1] == "begin"]
    assert len(begun) == len(set(begun)) == 4
    assert sweep.states() == {"COMPLETE": 4}
    workers = {trial.user_attrs["lease"]["worker"] for trial in sweep.trials()}
    folder = sweep.directory / "outputs" / "vae" / "sweep" / "workers"
    assert {path.name for path in folder.iterdir() if path.is_dir()} >= workers
    # Lines of the trials, then the summary, and nothing of the launcher's.
    assert not NOISE.search(printed), printed
    assert printed.startswith("trial ")
    assert sweep.is_all_gone()


@quick_launchers
def test_a_killed_workers_trial_goes_on_from_its_checkpoint(start: Start, name: str) -> None:
    sweep = start(f"hydra/launcher={name}", "loss=ssim,mse,l1", seconds=0.3, kill=("loss=mse",))
    printed = sweep.end()
    assert sweep.process.returncode == 0, printed
    assert sweep.states()["COMPLETE"] == 3
    failed = [trial for trial in sweep.trials() if trial.state.name == "FAIL"]
    assert failed
    assert all(trial.user_attrs["retried"] for trial in failed)
    assert "resume" in {words[1] for words in sweep.log()}
    # joblib takes the other worker down, too, perhaps after its training and before its telling.
    complete = [t.params["loss"] for t in sweep.trials() if t.state.name == "COMPLETE"]
    assert sorted(complete) == ["l1", "mse", "ssim"]
    assert sweep.is_all_gone()


@quick_launchers
def test_an_interrupt_lets_trials_end_their_epoch_and_the_command_goes_on(
    start: Start, name: str
) -> None:
    arguments = ["hydra/launcher=" + name, "loss=ssim,mse"]
    sweep = start(*arguments, seconds=0.5, epochs=1000)
    sweep.until(lambda: len(sweep.log()) == 2)
    sweep.interrupt()
    printed = sweep.end()
    assert sweep.process.returncode == 130, printed
    assert "to go on: python" in printed
    assert "Traceback" not in printed
    assert sweep.states() == {"WAITING": 2}
    assert sweep.is_all_gone()
    epochs = [int(path.read_text()) for path in sweep.directory.glob("*.epoch")]
    assert len(epochs) == 2

    # The same command; with a launcher as quick as any.
    again = start("loss=ssim,mse", seconds=0.0, epochs=max(epochs) + 2)
    assert (again.end(), again.process.returncode)[1] == 0
    assert again.states() == {"COMPLETE": 2}
    assert [words[1] for words in again.log()].count("resume") == 2


# Ray takes a quarter of a minute to start, so it has one test, of more.
@pytest.mark.parametrize("name", [RAY])
def test_ray_loses_neither_a_killed_workers_trial_nor_those_of_an_interrupt(
    start: Start, name: str
) -> None:
    grid = "loss=ssim,mse,l1"
    sweep = start(f"hydra/launcher={name}", grid, seconds=0.5, epochs=1000, kill=("loss=mse",))
    sweep.until(lambda: "resume" in {words[1] for words in sweep.log()})
    sweep.interrupt()
    printed = sweep.end()
    assert sweep.process.returncode == 130, printed
    assert "to go on: python" in printed
    assert "Traceback" not in printed
    assert sweep.states()["WAITING"] >= 2
    assert set(sweep.states()) == {"WAITING", "FAIL"}
    failed = [trial for trial in sweep.trials() if trial.state.name == "FAIL"]
    assert all(trial.user_attrs["retried"] for trial in failed)
    assert sweep.is_all_gone()

    epochs = [int(path.read_text()) for path in sweep.directory.glob("*.epoch")]
    again = start(grid, seconds=0.0, epochs=max(epochs) + 2)
    assert (again.end(), again.process.returncode)[1] == 0
    assert again.states()["COMPLETE"] == 3


@pytest.mark.parametrize("name", [JOBLIB])
def test_a_full_disk_of_one_worker_does_not_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    launched, full = launch._in_thread, [DiskFullError("6 MiB left")]

    def in_thread(call: Callable[[], Any]) -> Any:
        found = launched(call)
        if full:
            raise full.pop()
        return found

    monkeypatch.setattr(launch, "_in_thread", in_thread)
    sweep = sweeps.run(
        [f"hydra/launcher={name}", "loss=mse,ssim", "hydra.sweeper.n_jobs=2"],
        task=SimulatedTask(log=str(tmp_path / "log")),
    )
    assert full == []
    assert [t.state.name for t in sweep.study.trials] == ["COMPLETE", "COMPLETE"]


@quick_launchers
def test_a_second_interrupt_stops_now(start: Start, name: str) -> None:
    sweep = start("hydra/launcher=" + name, "loss=ssim,mse", seconds=1000.0)
    sweep.until(lambda: len(sweep.log()) == 2)
    sweep.interrupt()
    assert sweep.process.stdout is not None
    assert "again to stop at once" in sweep.process.stdout.readline()
    sweep.interrupt()
    printed = sweep.end()
    assert sweep.process.returncode == 130, printed
    assert "Traceback" not in printed
    assert sweep.states() == {"WAITING": 2}
    assert sweep.is_all_gone()


@quick_launchers
def test_workers_stop_when_the_command_is_killed(start: Start, name: str) -> None:
    sweep = start("hydra/launcher=" + name, "loss=ssim,mse", seconds=0.2, epochs=10000)
    sweep.until(lambda: len(sweep.log()) == 2)
    sweep.process.kill()
    sweep.end()
    assert sweep.is_all_gone(), sweep.processes()
    assert sweep.states() == {"WAITING": 2}


@pytest.mark.parametrize("name", [RAY])
def test_ray_that_is_slow_to_start_is_started_again(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import ray

    slow = "The current node timed out during startup."
    answers = [Exception(slow), None, Exception("no such option"), *[Exception(slow)] * 3]

    def init(**_: Any) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(ray, "init", init)
    settings = {"_target_": "RayLauncher", "ray": {"init": {"address": "local"}, "remote": {}}}
    config = OmegaConf.create({"hydra": {"launcher": settings}})
    plan: Any = SimpleNamespace(workers=2)
    with launchers.hosting(config, plan):
        assert len(answers) == 4
    for left in (3, 0):
        with pytest.raises(UserError, match="Ray does not start"), launchers.hosting(config, plan):
            pass
        assert len(answers) == left


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra/launcher=absent"], "`hydra/launcher` must be one of"),
        (["hydra/launcher=absent"], f"pip install --editable '{ROOT}[joblib]'"),
        pytest.param(
            ["hydra/launcher=joblib", "hydra.launcher.backend=multiprocessing"],
            "`hydra.launcher.backend` must be loky",
            marks=JOBLIB.marks,
        ),
    ],
)
def test_a_launcher_that_cannot_work_is_told_before_any_trial(
    start: Start, overrides: list[str], message: str
) -> None:
    sweep = start(*overrides, *GRID)
    printed = sweep.end()
    assert sweep.process.returncode == 2
    assert message in printed
    assert "Traceback" not in printed
    assert sweep.log() == []


def test_real_trials(start: Start) -> None:
    sweep = start("-m", "hydra/launcher=joblib", *GRID, *SMALL, script=ROOT / "run.py")
    printed = sweep.end()
    assert sweep.process.returncode == 0, printed
    assert len(re.findall(r"^trial \d done", printed, flags=re.M)) == 4
    assert sweep.states() == {"COMPLETE": 4}
    # Of the answer, whose command names the launcher, the text before.
    assert not NOISE.search(printed.partition("answer:")[0]), printed
    assert sweep.is_all_gone()
    found = [
        json.loads((sweep.directory / "outputs" / "vae" / "sweep" / n / "result.json").read_text())
        for n in "0123"
    ]
    assert {r["hardware"]["threads"] for r in found} == {max(1, cores() // 2)}
    for n in "0123":
        text = (sweep.directory / "outputs" / "vae" / "sweep" / n / "run.log").read_text()
        assert text.count("INFO experiments.trial: completed") == 1, "its own end and no other's"


def test_slurms_allotment_bounds_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "64")
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert cores() == 1
