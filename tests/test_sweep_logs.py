"""What the trials of a sweep leave in their run.log, and how much workers say."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from hydra._internal.execution_policy import execution_whitelist
from hydra.core.utils import configure_log
from omegaconf import OmegaConf

import sweeps
from experiments.errors import Interrupted
from experiments.record import read_history, read_result
from experiments.record.logs import warnings_logged
from experiments.scoring.symptoms import symptoms
from sweeps import whitelist
from sweeps.workers.launch import _tail
from sweeps.workers.logs import restored, say_more
from sweeps.workers.task import TrainingTask, WorkerSettings
from tests.conftest import TINY
from tests.hydra_multirun import multirun_config


def training_task(overrides: list[str]) -> TrainingTask:
    """What workers get of `python run.py -m OVERRIDES`."""
    with execution_whitelist(whitelist()):
        return TrainingTask(*multirun_config(*overrides), whitelist())


def run_log(sweep: Path, trial: int) -> str:
    return (sweep / str(trial) / "run.log").read_text(encoding="utf-8")


def test_each_trial_says_in_its_own_file_what_a_single_run_says(tiny_sweep: Path) -> None:
    for trial in range(4):
        text, result = run_log(tiny_sweep, trial), read_result(tiny_sweep / str(trial))
        assert text.count("INFO experiments.preflight.telling: loss=") == 1, text
        assert f"loss={result['parameters']['loss.name']} " in text
        epochs = result["epochs"]
        assert text.count(f"completed: {epochs} epochs") == 1, text
        assert f"psnr {result['objective']['values'][0]:.4g}" in text
        history = read_history(tiny_sweep / str(trial))
        for symptom in symptoms(
            result["parameters"], result["metrics"]["val"], history, objective="psnr", epochs=epochs
        ):
            assert f"WARNING experiments.trial: {symptom.kind}: {symptom.evidence}" in text
        assert "Traceback" not in text


def test_an_error_is_in_the_file_of_its_trial_alone_with_its_traceback(tiny_sweep: Path) -> None:
    text = run_log(tiny_sweep, 4)
    assert "Traceback (most recent call last)" in text
    assert "DivergedError: the loss became NaN or infinite" in text
    assert "completed" not in text


def test_a_pruned_trial_says_why(tiny_sweep: Path) -> None:
    text = run_log(tiny_sweep, 5)
    assert "pruned" in text
    assert "Traceback" not in text


@pytest.mark.slow
@pytest.mark.trains
def test_a_trial_that_goes_on_appends_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = training_task(["hydra.sweep.dir=sweep"])

    def run(*, stop: bool) -> tuple[float, ...]:
        job = task.prepare([*TINY], 0, WorkerSettings(0, None))
        return job.run(lambda *_: False, lambda: stop)

    with pytest.raises(Interrupted):
        run(stop=True)
    before = run_log(tmp_path / "sweep", 0)
    assert "interrupted: asked to stop after epoch 1" in before
    run(stop=False)
    added = run_log(tmp_path / "sweep", 0).removeprefix(before)
    assert "continues after epoch 1" in added
    assert "completed: 2 epochs" in added
    assert "interrupted" not in added


@pytest.mark.slow
@pytest.mark.trains
def test_a_sweep_leaves_the_callers_logging_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    root.setLevel(logging.ERROR)
    before = list(root.handlers)
    sweeps.run([*TINY, "report=none", "hydra.sweeper.n_jobs=0", "seed=0,1"])
    assert root.handlers == before
    assert root.level == logging.ERROR


CUSTOM = OmegaConf.create(
    {
        "hydra": {
            "job_logging": {
                "version": 1,
                "handlers": {"file": {"class": "logging.FileHandler", "filename": "???"}},
                "root": {"level": "INFO", "handlers": ["file"]},
                "loggers": {"experiments": {"level": "DEBUG", "handlers": ["file"]}},
                "disable_existing_loggers": False,
            },
            "verbose": ["sweeps"],
        }
    }
)


def test_a_trials_handlers_and_levels_end_with_it_and_its_file_is_closed(tmp_path: Path) -> None:
    root, ours, below = map(logging.getLogger, (None, "experiments", "experiments.trial"))
    below.setLevel(logging.WARNING)
    before = [(log.level, list(log.handlers), log.propagate) for log in (root, ours, below)]
    config = CUSTOM.copy()
    config.hydra.job_logging.handlers.file.filename = f"{tmp_path}/log"
    with restored(config):
        configure_log(
            config.hydra.job_logging, config.hydra.verbose, execution_whitelist=["logging.*"]
        )
        (handler,) = ours.handlers
        ours.debug("of the trial")
        assert logging.getLogger("sweeps").level == logging.DEBUG
    assert [(log.level, list(log.handlers), log.propagate) for log in (root, ours, below)] == before
    assert isinstance(handler, logging.FileHandler)
    assert handler.stream is None
    ours.error("of nobody")
    assert (tmp_path / "log").read_text().split("\n") == ["of the trial", "of the trial", ""]
    assert logging.getLogger("sweeps").level != logging.DEBUG


@pytest.mark.parametrize(
    ("verbose", "loud"),
    [
        (False, []),
        (True, [None, "sweeps", "experiments"]),
        ("sweeps", ["sweeps"]),
        (["sweeps", "experiments"], ["sweeps", "experiments"]),
    ],
)
def test_verbose_means_what_hydra_says(
    verbose: bool | str | list[str], loud: list[str | None]
) -> None:
    logging.getLogger().setLevel(logging.INFO)
    say_more(verbose)
    for name in (None, "sweeps", "experiments"):
        logger = logging.getLogger(name)
        assert logger.isEnabledFor(logging.DEBUG) == (name in loud)


def test_warnings_of_python_are_logged_and_those_outside_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with warnings_logged():
            warnings.warn("of the trial", UserWarning, stacklevel=1)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "UserWarning: of the trial" in record.getMessage()
        with pytest.warns(UserWarning, match="of another"):
            warnings.warn("of another", UserWarning, stacklevel=1)
    assert len(caplog.records) == 1


def test_a_worker_that_said_what_is_wrong_is_quoted_and_one_that_broke_with_its_end(
    tmp_path: Path,
) -> None:
    log = tmp_path / "worker.log"
    log.write_text("Traceback\n  a\nerror: the disk needs 16 MiB\n")
    assert _tail(log) == "error: the disk needs 16 MiB"
    log.write_text("Traceback\n  a\nValueError: b\n")
    assert _tail(log) == "Traceback\n  a\nValueError: b"
