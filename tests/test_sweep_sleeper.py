"""A worker that was stopped for so long that another has finished its trial writes nothing more."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from experiments.machine.waits import WAITS
from experiments.record import read_history, read_result
from experiments.record.fence import LOCK_FILE
from tests.conftest import TINY
from tests.test_fence import files
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]
# The worker is the command's own process, which no other command ends.
SWEEP = [*TINY, "lr=choice(1e-3)", "seed=0", "max_epochs=12", "trainer.validate_every=1"]
SWEEP += ["logger=csv", "report=none", "hydra.sweeper.n_jobs=0"]


@pytest.mark.slow
@pytest.mark.trains
def test_a_worker_that_slept_while_another_finished_its_trial_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAITS, "0.05")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, str(ROOT / "run.py"), "-m", *SWEEP]
    sweep = tmp_path / "outputs" / "vae" / "sweep"
    with Path("sleeper.log").open("wb") as log:
        sleeper = subprocess.Popen(command, stdout=log, stderr=log)
    said = Path("sleeper.log").read_text
    wait_until(lambda: len(read_history(sweep / "0")) > 1, sleeper, said)
    wait_until(lambda: stopped_outside_the_lock(sleeper, sweep / "0"), sleeper, said)
    subprocess.run(command, check=True, timeout=PATIENCE)
    before, (taken, clone) = files(sweep / "0"), trials_of(sweep)
    assert len(read_history(sweep / "0")) == 12
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(PATIENCE) == 0
    assert "trial 0 was taken over by another worker" in said()
    assert files(sweep / "0") == before
    assert [taken.state.name, clone.state.name] == ["FAIL", "COMPLETE"]
    # A report that was under way may still reach the trial that was taken, which counts nowhere.
    taken_after, clone_after = trials_of(sweep)
    assert clone_after == clone
    assert (taken_after.state, taken_after.values) == (taken.state, None)
    assert read_result(sweep / "0")["status"] == "completed"


def stopped_outside_the_lock(process: subprocess.Popen[bytes], record: Path) -> bool:
    """Stop a process; not while it holds its record, for which others would have to wait."""
    process.send_signal(signal.SIGSTOP)
    with (record / LOCK_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process.send_signal(signal.SIGCONT)
            return False
    return True


def trials_of(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="vae", storage=f"sqlite:///{sweep}/study.db").trials
