"""A worker that was stopped for so long that another has finished its trial writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import psutil
import pytest

from experiments.record import read_history, read_result
from experiments.waits import WAITS
from tests.conftest import TINY
from tests.test_fence import files
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]
SWEEP = [*TINY, "lr=choice(1e-3)", "seed=0", "max_epochs=60", "trainer.validate_every=1"]
SWEEP += ["logger=csv", "report=none", "hydra.sweeper.n_jobs=1"]


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker by its session")
def test_a_worker_that_slept_while_another_finished_its_trial_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAITS, "0.05")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, str(ROOT / "run.py"), "-m", *SWEEP]
    sweep = tmp_path / "outputs" / "vae" / "sweep"
    with Path("first.log").open("wb") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    wait_until(lambda: len(read_history(sweep / "0")) > 2, first, Path("first.log").read_text)
    (sleeper,) = [
        child
        for child in psutil.Process(first.pid).children(recursive=True)
        if os.getsid(child.pid) == child.pid
    ]
    try:
        sleeper.suspend()
        first.kill()
        first.wait()
        subprocess.run(command, check=True, timeout=PATIENCE)
        before, trials = files(sweep), trials_of(sweep)
        sleeper.resume()
        sleeper.wait(PATIENCE)
    finally:
        if sleeper.is_running():
            sleeper.send_signal(signal.SIGKILL)
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE"]
    assert read_result(sweep / "0")["status"] == "completed"
    assert trials_of(sweep) == trials
    after = files(sweep)
    (log_of_sleeper,) = [name for name in after if after[name] != before.get(name)]
    assert log_of_sleeper.startswith("workers/"), "the log of its own"


def trials_of(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name="vae", storage=f"sqlite:///{sweep}/study.db")
    return study.trials
