"""Standard output whose reader goes away, and places that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.errors import (
    DiskFullError,
    PassingError,
    RecordLockedError,
    TrialError,
    UserError,
)
from experiments.machine.code import own_version
from experiments.terminal import FULL_ERROR, errors_for_people
from tests.conftest import ROOT, TINY

_RUN = [str(ROOT / "run.py")]
_MODULES = (
    "analysis.report", "experiments.data.prepare", "experiments.preflight", "experiments.rerun",
    "experiments.sync", "serving.app", "serving.export", "serving.generate",
    "sweeps.chaos",
)  # fmt: skip
_PRINTING = [[*_RUN, "--info"], [*_RUN, "--cfg", "job"], [*_RUN, "--help"], [*_RUN, "--version"]]
_PRINTING += [["-m", module, "--help"] for module in _MODULES]


def _run(
    arguments: list[str], folder: Path, *, stdout: int | None = None, stderr: int | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
        check=False,
    )


@pytest.fixture
def nobody() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", _PRINTING, ids=lambda a: " ".join(a[-2:]))
def test_a_command_whose_reader_has_gone_ends_quietly_and_well(
    arguments: list[str], nobody: int, tmp_path: Path
) -> None:
    done = _run(arguments, tmp_path, stdout=nobody)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a sweep prepares, it met users as a hundred lines of Python."""
    monkeypatch.delenv(FULL_ERROR, raising=False)
    with pytest.raises(SystemExit) as ended, errors_for_people():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def _caused(cause: BaseException) -> Exception:
    error = UserError("a server must answer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("`lr` must be above 0"), 2),
        (TrialError("the loss became NaN"), 2),
        (OSError(errno.EACCES, "Permission denied", "x"), 2),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 75),
        (DiskFullError("too little space"), 75),
        (RecordLockedError("a record must be free"), 75),
        (PassingError("a server must answer"), 75),
        (_caused(ConnectionRefusedError()), 75),
        (_caused(socket.gaierror(socket.EAI_AGAIN, "not now")), 75),
        (_caused(socket.gaierror(socket.EAI_NONAME, "no such name")), 2),
        (_caused(KeyError("x")), 2),
    ],
    ids=repr,
)
def test_an_exit_status_says_whether_the_same_command_may_work_later(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And neither is 1, which Python gives any traceback."""
    monkeypatch.delenv(FULL_ERROR, raising=False)
    with pytest.raises(SystemExit) as ended, errors_for_people():
        raise error
    assert ended.value.code == status


_INTERRUPTS = """
import importlib.abc, os, runpy, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.path.insert(0, sys.argv[2])
runpy.run_path(sys.argv[2] + "/run.py", run_name="__main__")
"""
"""The command, interrupted where it imports a module."""


@pytest.mark.parametrize("module", ["hydra", "sweeps", "hydra.core.override_parser"])
def test_an_interrupt_while_it_loads_is_quiet(module: str, tmp_path: Path) -> None:
    done = _run(["-c", _INTERRUPTS, module, str(Path(_RUN[0]).parent)], tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in ("", "interrupted\n")


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    done = _run([*_RUN, "--version"], tmp_path)
    assert (done.returncode, done.stdout) == (0, f"vaesweep {own_version()}\n")
    assert re.fullmatch(r"\d+\.\d+\.\d+", own_version())


def test_a_command_that_nobody_reads_at_all_ends_well(nobody: int, tmp_path: Path) -> None:
    assert _run([*_RUN, "--cfg", "job"], tmp_path, stdout=nobody, stderr=nobody).returncode == 0


@pytest.mark.slow
def test_a_mistake_is_one_also_where_nobody_reads(nobody: int, tmp_path: Path) -> None:
    done = _run([*_RUN, "lr=-1", *TINY], tmp_path, stdout=nobody)
    assert done.returncode == 2
    assert "error: `lr` must be above 0" in done.stderr


@pytest.mark.slow
def test_training_goes_on_to_its_end_when_its_reader_goes(nobody: int, tmp_path: Path) -> None:
    done = _run([*_RUN, *TINY, "trainer.progress=true"], tmp_path, stdout=nobody, stderr=nobody)
    assert done.returncode == 0
    (result,) = tmp_path.rglob("result.json")
    assert '"status": "completed"' in result.read_text()


@pytest.mark.slow
def test_a_sweep_leaves_its_report_when_its_reader_goes(nobody: int, tmp_path: Path) -> None:
    arguments = [*_RUN, "-m", *TINY, "loss=mse,l1", "hydra.sweeper.n_jobs=0"]
    done = _run(arguments, tmp_path, stdout=nobody, stderr=nobody)
    assert done.returncode == 0
    assert len(list(tmp_path.rglob("report.html"))) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [[*_RUN, "--cfg", "job"], ["-m", "serving.app", "--help"]])
def test_output_that_is_lost_on_a_full_disk_is_an_error(
    arguments: list[str], tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        done = _run(arguments, tmp_path, stdout=full.fileno())
    assert done.returncode == 75
    assert done.stderr == (
        "error: what is printed must have a place with space left, but standard output gives: "
        "No space left on device\n"
    )


@pytest.mark.slow
def test_a_standard_output_that_was_closed_is_no_trouble(tmp_path: Path) -> None:
    command = f"exec {sys.executable} {_RUN[0]} --cfg job >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


_IMPOSSIBLE = ["/proc/x", "/dev/null/x", "file/x", "n" * 300, "a/../file"]


@pytest.mark.slow
@pytest.mark.parametrize("where", _IMPOSSIBLE, ids=lambda where: where[:10])
@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_an_output_directory_that_cannot_be_is_one_message(
    key: str, where: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "a").mkdir()
    sweep = ["-m", "loss=mse,l1", "hydra.sweeper.n_jobs=0"] if "sweep" in key else []
    done = _run([*_RUN, *TINY, *sweep, f"{key}={where}"], tmp_path)
    assert done.returncode == 2
    assert "error: the output directory must be one that can be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EISDIR, errno.EFBIG],
    ids=errno.errorcode.get,
)
def test_a_place_that_cannot_be_written_is_named(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended, errors_for_people():
        raise OSError(number, os.strerror(number), "/somewhere/x")
    assert ended.value.code == (75 if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else 2)
    message = capsys.readouterr().err
    assert message.startswith("error: the output directory must be one that can be written")
    assert f"/somewhere/x gives: {os.strerror(number)}" in message


def test_a_log_file_that_cannot_be_opened_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit), errors_for_people():
        # As Python's `logging.config` does it.
        raise ValueError("Unable to configure handler 'file'") from PermissionError(
            errno.EACCES, "Permission denied", "/somewhere/run.log"
        )
    assert "/somewhere/run.log gives: Permission denied" in capsys.readouterr().err


def test_a_file_that_is_missing_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(FileNotFoundError), errors_for_people():
        Path("/nowhere/x").read_text()


def test_a_wrapped_mistake_stays_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit), errors_for_people():
        raise UserError("`lr` must be above 0")
    assert capsys.readouterr().err == "error: `lr` must be above 0\n"
