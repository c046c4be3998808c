"""What a single run leaves and says where it ends before its time."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from experiments.cli import commands
from experiments.errors import Interrupted
from experiments.machine import plugins
from experiments.record import LAST, RESULT, write_json
from experiments.record.single import single_run
from tests.words import trusting


def end(
    directory: Path, error: BaseException, status: str = "interrupted", checkpoint: bool = False
) -> None:
    """Begin a record, and end so."""
    (directory / "checkpoints").mkdir()
    if checkpoint:
        (directory / LAST).touch()
    write_json(directory / RESULT, {"schema": 1, "status": status})
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("oh")])
def test_a_run_that_never_began_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    (directory / ".hydra").mkdir(parents=True)
    (directory / "run.log").touch()
    with pytest.raises(type(error)), single_run(directory):
        raise error
    assert not directory.exists()


@pytest.mark.parametrize("launcher", [None, "torchrun"])
def test_before_its_first_checkpoint_it_says_to_begin_anew(
    launcher: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(Interrupted), single_run(tmp_path, launcher):
        end(tmp_path, Interrupted("number 1 (from 0) is lost"))
    assert "give the same command again" in caplog.text
    assert f"record: {tmp_path}" in caplog.text


def test_interrupted_while_it_prepares_it_says_to_begin_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "run"
    directory.mkdir()
    with pytest.raises(KeyboardInterrupt), single_run(directory):
        raise KeyboardInterrupt
    assert "give the same command again, which begins anew" in caplog.text
    assert str(directory) not in caplog.text


def test_a_run_that_was_pruned_is_not_to_be_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(SystemExit), single_run(tmp_path):
        end(tmp_path, SystemExit(130), "pruned")
    assert caplog.text == ""


def test_the_command_that_continues_has_the_users_word_and_few_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "argv", ["run.py", "loss=custom", "loss.target=my_losses.cube"])
    trusting(monkeypatch, "my_losses")
    monkeypatch.setenv(plugins.VARIABLE, "my_metrics,my networks")
    directory = tmp_path / "run"
    directory.mkdir()
    with pytest.raises(Interrupted), single_run(directory):
        end(directory, Interrupted(), checkpoint=True)
    word = "VAESWEEP_TRUST=my_losses VAESWEEP_PLUGINS='my_metrics,my networks' python run.py"
    assert f"to continue: {word} loss=custom" in caplog.text
    assert caplog.text.strip().endswith(f" hydra.run.dir={directory}")
    assert commands.module("analysis.report").startswith("VAESWEEP_TRUST=my_losses ")
