"""`python run.py -m`, as people type, interrupt, kill and repeat it, with real trials."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from experiments.record.membership import records_below
from tests import paced
from tests.conftest import ROOT, TINY
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

SMALL = [*TINY, "report=none"]

PACED = ["loss=custom", "loss.target=tests.paced.squared_error"]
"""A loss for trials that a test has to find in the middle of their training."""

ABSENT = ["data=images", "data.root=absent"]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own and no W&B settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "VAESWEEP_CACHE": str(tmp_path / "cache"),
        "PYTHONWARNINGS": "default",
        "VAESWEEP_TRUST": "tests",
        paced.SLOW: str(tmp_path / "slow"),
    }


@pytest.fixture
def sweep(tmp_path: Path, home: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "-m", *SMALL, *arguments],
            cwd=tmp_path,
            env=home,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@contextmanager
def begun(folder: Path, home: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process group of its own, as a shell starts it."""
    command = [sys.executable, str(ROOT / "run.py"), "-m", *SMALL, *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def slow_trials(home: dict[str, str], seconds: float = 0.02) -> Iterator[None]:
    """Let trials with the loss `PACED` take their time: so many seconds a step."""
    switch = Path(home[paced.SLOW])
    switch.write_text(str(seconds))
    yield
    switch.unlink()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    wait_until(holds, process, lambda: process.communicate()[0])


def study_in(folder: Path, name: str = "vae") -> optuna.Study:
    database = folder / "outputs" / name / "sweep" / "study.db"
    return optuna.load_study(study_name=name, storage=f"sqlite:///{database}")


def results(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.rglob("result.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def test_a_sweep_trains_every_combination_prints_the_best_and_is_done_when_repeated(
    tmp_path: Path, sweep: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = sweep("loss=ssim,mse", "lr=1e-3,3e-4", "hydra.sweeper.n_jobs=2")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "outputs")
    combinations = {(r["parameters"]["loss.name"], r["parameters"]["lr"]) for r in found.values()}
    assert combinations == {(n, lr) for n in ("ssim", "mse") for lr in (1e-3, 3e-4)}
    assert set(found) == {"0", "1", "2", "3"}
    assert all(list(r["metrics"]) == ["val"] for r in found.values()), "no test split in a sweep"
    assert {r["hardware"]["threads"] for r in found.values()} == {1} or os.cpu_count() != 2
    study = study_in(tmp_path)
    for trial in study.trials:
        record = found[str(trial.number)]
        assert trial.value == record["objective"]["values"][0]
        assert trial.user_attrs["summary"]["metrics"] == record["metrics"]
    (best,) = re.findall(r"^ +1 +(\d+) ", done.stdout, flags=re.MULTILINE)
    assert int(best) == study.best_trial.number
    yaml_text = (tmp_path / "outputs/vae/sweep/optimization_results.yaml").read_text()
    assert f"best_value: {study.best_value!r}" in yaml_text
    assert "Warning" not in done.stderr + done.stdout, done.stderr
    times = {n: r["started"] for n, r in found.items()}

    again = sweep("loss=ssim,mse", "lr=1e-3,3e-4", "hydra.sweeper.n_jobs=2")
    assert again.returncode == 0
    assert {n: r["started"] for n, r in results(tmp_path / "outputs").items()} == times


def test_a_sweep_that_is_interrupted_twice_goes_on(
    tmp_path: Path, home: dict[str, str], sweep: Callable[..., Any]
) -> None:
    arguments = [
        *PACED,
        "lr=1e-3,3e-4",
        "max_epochs=16",
        "hydra.sweeper.n_jobs=2",
        "trainer.validate_every=2",
        "optimizer.plateau_patience=4",
        "trainer.early_stopping_patience=null",
    ]

    def epochs() -> list[int]:
        return [len(path.read_text().splitlines()) for path in tmp_path.rglob("history.jsonl")]

    for stop, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        had = sum(epochs())
        with begun(tmp_path, home, *arguments) as process, slow_trials(home, seconds=0.2):
            wait_for(lambda: len(epochs()) == 2 and sum(epochs()) > had, process)  # noqa: B023
            process.send_signal(stop)
            output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == status, output
        assert "stopping: running trials end their epoch" in output
        command = " ".join(arguments)
        assert f"to go on: python {ROOT / 'run.py'} -m {' '.join(SMALL)} {command}" in output
        (so_far,) = re.findall(r"for the answer so far: .*-m analysis.report (.*)", output)
        assert (tmp_path / so_far / "study.db").is_file()
        assert "Traceback" not in output, output
        trials = study_in(tmp_path).trials
        assert [t.state for t in trials] == [TrialState.WAITING] * 2
        assert {r["status"] for r in results(tmp_path).values()} == {"interrupted"}

    done = sweep(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    found = results(tmp_path / "outputs")
    assert [t.state for t in study_in(tmp_path).trials] == [TrialState.COMPLETE] * 2
    assert all("resumed" in r for r in found.values())


def test_a_second_interrupt_stops_at_once_and_leaves_nothing_running(
    tmp_path: Path, home: dict[str, str]
) -> None:
    arguments = ["loss=mse,l1", "max_epochs=100000", "trainer.early_stopping_patience=null"]
    with begun(tmp_path, home, *arguments) as process:
        wait_for(lambda: bool(list(tmp_path.rglob("history.jsonl"))), process)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "again to stop at once" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, output
    assert TrialState.RUNNING not in {t.state for t in study_in(tmp_path).trials}
    assert "to go on: python" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss=mse,sim"], "`loss` must be one of charbonnier"),
        (["lr=interval(-1,1)"], "`lr` must be above 0, but got -1.0"),
        (["loss=mse,l1", *ABSENT], "absent does not exist"),
        (["loss=mse,custom", "loss.target=os.system"], "put VAESWEEP_TRUST=tests,os before"),
        (["loss=mse,custom", "loss.target=tests.absent.focal"], "cannot be imported"),
        (["loss=mse,l1", "hydra.sweep.dir=/dev/null/x"], "the output directory must be one that"),
        (
            ["loss=mse,l1", "hydra.sweeper.storage=mysql://me:key@127.0.0.1:1/x", *ABSENT],
            "must be reachable and writable, but mysql://me:***@127.0.0.1:1/x",
        ),
    ],
)
def test_a_mistake_is_one_message_before_any_trial(
    tmp_path: Path,
    sweep: Callable[..., subprocess.CompletedProcess[str]],
    arguments: list[str],
    message: str,
) -> None:
    done = sweep(*arguments)
    assert done.returncode == (75 if "reachable" in message else 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_hydras_patterns_in_a_folder_of_any_name_agree_among_workers_and_readers(
    tmp_path: Path, home: dict[str, str]
) -> None:
    from analysis.load import load
    from serving.model.references import find_checkpoint

    folder = tmp_path / "what?now #1 50%2F;a&b"
    folder.mkdir()
    patterns = [
        "hydra.sweep.dir=out/${now:%H-%M-%S-%f}",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra.job.config.override_dirname.exclude_keys="
        "[seed,data.size,data.count,model.width,batch_size,max_epochs,"
        "evaluation.samples,logger,trainer.progress,report,objective]",
    ]
    # Rank variables, as `srun` and torchrun leave them, change nothing.
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "WORLD_SIZE"), "1")
    command = [*SMALL, "loss=mse,l1", "seed=0,1", "hydra.sweeper.n_jobs=2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "-m", *command, *patterns],
        cwd=folder, env=home | ranks, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    assert [path.name for path in tmp_path.iterdir() if "what" in path.name] == [folder.name]
    (sweep,) = (folder / "out").iterdir()
    names = {str(path.relative_to(sweep)) for path in records_below(sweep)}
    assert len(names) == 4
    # Of two seeds in one directory's name, the later has its trial's number behind it.
    assert Counter(re.sub(r"_[0-3]$", "", name) for name in names) == {
        "latent_dim=4,loss=mse": 2, "latent_dim=4,loss=l1": 2,
    }  # fmt: skip
    assert "optuna-dashboard" in done.stdout + done.stderr
    database = sweep / "study.db"
    for source in (str(sweep), f"sqlite:///{database}#vae", str(database)):
        runs = load(source)
        assert not runs.broken
        assert sorted(runs.trials["number"]) == [0, 1, 2, 3]
        assert len(set(runs.trials["directory"])) == 4
    assert find_checkpoint(str(sweep)) == find_checkpoint(f"sqlite:///{database}#vae")
