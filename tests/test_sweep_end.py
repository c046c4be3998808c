"""What is called at the end of a sweep, such as a report: when, with what, and if it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sweeps
from experiments.cli.commands import module
from experiments.errors import DiskFullError, UserError
from experiments.record.fence import OWNER_FILE
from sweeps import sweeper
from sweeps.command import Sweep
from sweeps.screen.ending import Conclusion
from tests.simulated import SimulatedTask

GRID = ["loss=ssim,mse", "hydra.sweeper.n_jobs=0"]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeper.StudySweeper, "at_end", None)


@pytest.fixture
def ended() -> list[Sweep]:
    """The sweeps that a function at the end, which is registered, has seen."""
    seen: list[Sweep] = []

    def write(sweep: Sweep) -> Conclusion:
        seen.append(sweep)
        return Conclusion({"report": sweep.directory / "report.html"}, ["use mse", "more"])

    sweeper.register(at_end=write)
    return seen


@pytest.mark.slow
def test_a_sweep_that_ended_is_handed_over_and_the_paths_are_printed(
    ended: list[Sweep], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweeps.run(["lr=1e-4", *GRID], task=SimulatedTask(log="log"))
    assert ended == [sweep]
    assert ended[0].config["lr"] == 1e-4
    printed = capsys.readouterr().out
    assert "report   outputs/vae/sweep/report.html\n" in printed
    assert printed.index("2 trials: 2 done") < printed.index("report   ")
    assert printed.endswith("answer:\nuse mse\nmore\n")


@dataclass(frozen=True)
class InOnePlace(SimulatedTask):
    """Every trial says that its record is in the same directory."""

    directory: str = ""

    def prepare(self, *args: Any) -> Any:
        job = super().prepare(*args)
        job.directory = self.directory
        return job


def test_trials_without_a_record_leave_the_working_directory_as_it_was(tmp_path: Path) -> None:
    sweep = sweeps.run(GRID, task=InOnePlace(log="log"))
    assert [t.state.name for t in sweep.study.trials] == ["COMPLETE", "COMPLETE"]
    assert not (tmp_path / OWNER_FILE).exists()


def test_a_record_that_is_another_trials_fails_the_trial_and_says_whose(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.mkdir()
    sweeps.run([*GRID, "name=first"], task=InOnePlace(log="log", directory=str(record)))
    owner = json.loads((record / OWNER_FILE).read_text())
    assert owner["token"] == 1

    sweep = sweeps.run([*GRID, "name=second"], task=InOnePlace(log="log", directory=str(record)))
    assert [t.state.name for t in sweep.study.trials] == ["COMPLETE", "COMPLETE"]
    later = json.loads((record / OWNER_FILE).read_text()) | {"token": 2}
    (record / OWNER_FILE).write_text(json.dumps(later))
    again = ["loss=ssim,mse,l1", *GRID[1:], "name=second"]
    sweep = sweeps.run(again, task=InOnePlace(log="log", directory=str(record)))
    assert sweep.study.trials[2].state.name == "COMPLETE"

    (record / OWNER_FILE).write_text(json.dumps(later | {"token": 99}))
    again[0] += ",charbonnier"
    sweep = sweeps.run(again, task=InOnePlace(log="log", directory=str(record)))
    failed = sweep.study.trials[3]
    assert failed.state.name == "FAIL"
    assert failed.user_attrs["reason"] == f"its record is of {later['process']} now"


@dataclass(frozen=True)
class Faulty(SimulatedTask):
    """Trials with `loss=mse` raise, or give what is no summary."""

    error: BaseException | None = None
    shown: object = None

    def prepare(self, *args: Any) -> Any:
        job: Any = super().prepare(*args)
        run = job.run

        def fail(*arguments: Any) -> Any:
            if self.error is not None and "loss=mse" in args[0]:
                raise self.error
            return run(*arguments)

        job.run = fail
        if self.error is None:
            job.summary = lambda: {"of": self.shown}
        return job


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("my service"),
        ConnectionError("my service"),
        SystemExit(3),
        SystemExit(143),
        asyncio.CancelledError("it"),
    ],
    ids=["timeout", "connection", "exit", "exit as if stopped", "cancelled"],
)
def test_what_a_task_raises_costs_one_trial_and_is_its_reason(error: BaseException) -> None:
    sweep = sweeps.run(
        ["loss=mse,ssim,l1", "hydra.sweeper.n_jobs=0", "sweep.max_failure_rate=1"],
        task=Faulty(log="log", error=error),
    )
    states = {t.params["loss"]: t.state.name for t in sweep.study.trials}
    assert states == {"mse": "FAIL", "ssim": "COMPLETE", "l1": "COMPLETE"}
    assert sweep.study.trials[0].user_attrs["reason"] == f"{type(error).__name__}: {error}"


def test_a_disk_with_too_little_space_costs_no_trial() -> None:
    task = Faulty(log="log", error=DiskFullError("6 MiB left"))
    with pytest.raises(UserError, match="6 MiB left"):
        sweeps.run(GRID, task=task)
    again = sweeps.run(GRID, task=SimulatedTask(log="log"))
    assert [t.state.name for t in again.study.trials] == ["COMPLETE", "COMPLETE"]


def test_a_summary_that_no_study_can_hold_costs_no_trial() -> None:
    sweep = sweeps.run(GRID, task=Faulty(log="log", shown=object()))
    assert [t.state.name for t in sweep.study.trials] == ["COMPLETE", "COMPLETE"]


@pytest.mark.slow
def test_it_is_called_for_a_sweep_without_an_answer(ended: list[Sweep]) -> None:
    with pytest.raises(UserError, match="every trial failed"):
        sweeps.run(GRID, task=SimulatedTask(log="log", fail=("loss=ssim", "loss=mse")))
    assert len(ended) == 1


@pytest.mark.slow
def test_it_is_not_called_for_a_sweep_that_was_interrupted(
    ended: list[Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(SimulatedTask):
        def prepare(self, *args: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second interrupt stops at once")

    with pytest.raises(SystemExit) as stopped:
        sweeps.run(GRID, task=Interrupting(log="log"))
    assert stopped.value.code == 130
    assert ended == []


@pytest.mark.slow
@pytest.mark.parametrize("error", [ValueError("no trial\nis complete"), SystemExit(2)])
def test_should_it_fail_the_sweep_stays_and_the_command_to_repeat_it_is_told(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(sweep: Sweep) -> Conclusion:
        raise error

    sweeper.register(at_end=fail)
    with caplog.at_level(logging.ERROR):
        sweep = sweeps.run(["name=a b", *GRID], task=SimulatedTask(log="log"))
    assert (sweep.directory / "optimization_results.yaml").exists()
    (message,) = [r.getMessage() for r in caplog.records if "report" in r.getMessage()]
    why = {"ValueError": "ValueError: no trial", "SystemExit": "SystemExit: 2"}
    assert message == (
        f"no report was written ({why[type(error).__name__]}); to write it: "
        + module("analysis.report", str(sweep.directory))
    )


def test_workers_that_tell_hydra_of_the_plugin_leave_what_the_command_registered(
    ended: list[Sweep],
) -> None:
    from sweeps.workers.launch import register_config

    before = sweeper.StudySweeper.at_end
    register_config()
    assert sweeper.StudySweeper.at_end is before is not None
