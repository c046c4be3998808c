"""A trial that changes hands is held by one worker, and by the right one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

import sweeps
from experiments.errors import Interrupted
from sweeps.study.attributes import LEASE
from sweeps.leases import Lease, Watch, _born, machine
from sweeps.recovery import put_back, reclaim
from sweeps.task import Report, WorkerSettings
from tests.simulated import SimulatedJob, SimulatedTask


@pytest.fixture
def study() -> optuna.Study:
    """A study with one running trial, of a worker on this machine."""
    study = optuna.create_study()
    study.ask()
    return study


@pytest.fixture
def worker(study: optuna.Study) -> subprocess.Popen[bytes]:
    """The process that holds the trial."""
    process = subprocess.Popen(["sleep", "600"])
    lease = {"worker": "earlier-0", "host": machine(), "pid": process.pid, "beat": 1}
    lease["born"] = _born(process.pid)
    optuna.Trial(study, 0).set_user_attr(LEASE, lease)
    return process


def running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.RUNNING,))


def test_a_trial_that_was_put_back_is_not_abandoned_while_it_is_claimed(
    study: optuna.Study, worker: subprocess.Popen[bytes]
) -> None:
    assert put_back(study, "earlier") == [0]
    assert worker.wait() != 0
    study.ask()  # and the claimer has not come to write its lease yet
    assert [trial.number for trial in running(study)] == [0]
    assert Watch().abandoned(running(study)) == []


def test_the_clone_of_an_abandoned_trial_is_not_abandoned_while_it_is_claimed(
    study: optuna.Study, worker: subprocess.Popen[bytes]
) -> None:
    worker.kill()
    worker.wait()
    assert reclaim(study, Watch().abandoned(running(study)), max_retries=1) == [0]
    study.ask()
    assert [trial.number for trial in running(study)] == [1]
    assert Watch().abandoned(running(study)) == []


def test_nothing_is_written_about_a_trial_that_was_dropped(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.leases.BEAT_SECONDS", 0.01)
    log: list[str] = []

    class Slow(optuna.Trial):
        def set_user_attr(self, key: str, value: Any) -> None:
            log.append("begin")
            time.sleep(0.1)
            super().set_user_attr(key, value)
            log.append("end")

    lease = Lease(study, "here-0", lambda: False)
    try:
        lease.take(Slow(study, 0))
        while log[-1] != "begin":  # until a beat is under way
            time.sleep(0.001)
        lease.drop()
        written = len(log)
        assert log[-1] == "end"
        time.sleep(0.05)
        assert len(log) == written
    finally:
        lease.end()


@dataclass(frozen=True)
class SleepyTask(SimulatedTask):
    """Its first trial is given to another worker while it trains."""

    def prepare(
        self, overrides: Sequence[str], number: int, settings: WorkerSettings
    ) -> SimulatedJob:
        return SleepyJob(self, list(overrides), number)


class SleepyJob(SimulatedJob):
    """Of `SleepyTask`."""

    endings: list[type[BaseException] | None] = []  # noqa: RUF012  # of every run, in order

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        if not self.endings:
            study = optuna.load_study(
                study_name="vae", storage=f"sqlite:///{Path(self.directory).parent}/study.db"
            )
            assert reclaim(study, running(study), max_retries=1) == [0]
        try:
            values = super().run(report, should_stop)
        except Exception as error:
            self.endings.append(type(error))
            raise
        self.endings.append(None)
        return values


def test_a_worker_whose_trial_was_taken_over_leaves_it_alone_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SleepyJob, "endings", [])
    sweep = sweeps.run(
        ["lr=1e-3,3e-4", "hydra.sweeper.n_jobs=0", "hydra.sweeper.storage=sqlite:///study.db"],
        task=SleepyTask(log=str(tmp_path / "log")),
    )
    first, *others = SleepyJob.endings
    assert first is not None
    assert issubclass(first, Interrupted)  # so that the record's checkpoint stays
    assert others == [None, None]
    states: list[Any] = [(t.state, t.params["lr"]) for t in sweep.study.trials]
    assert states == [
        (TrialState.FAIL, 1e-3),
        (TrialState.COMPLETE, 1e-3),
        (TrialState.COMPLETE, 3e-4),
    ]
    assert "trial 0 was taken over by another worker" in caplog.text
