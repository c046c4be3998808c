"""Processes without a home directory, a user's name or a place for temporary files."""

from __future__ import annotations

import getpass
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import UserError
from experiments.machine import home
from experiments.tracking.wandb.run import choose_mode

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of an arbitrary user of a container."""

    def unknown(*_: Any) -> Any:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", *NAMES):
        monkeypatch.setenv(name, "kept by the fixture")  # so that it is restored
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("given", [None, "/dev/null/home", "/dev/null"])
def test_a_process_without_a_home_gets_an_empty_one_and_says_so(
    given: str | None, nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if given is not None:
        nobody.setenv("HOME", given)
    home.ensure_home()
    home.ensure_home()

    assert Path("~").expanduser().is_dir()
    assert not list(Path.home().iterdir())
    assert getpass.getuser() == str(os.getuid())
    (message,) = caplog.messages
    assert "no home directory" in message
    assert given is None or given in message
    assert choose_mode({"HOME": os.environ["HOME"]}).mode == "offline"


def test_a_home_stays_and_its_caches_go_elsewhere_where_nobody_may_write(
    tmp_path: Path, nobody: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody.setenv("HOME", str(tmp_path))
    nobody.setenv("WANDB_CACHE_DIR", "/mine")
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "WANDB_DATA_DIR"):
        nobody.setenv(name, "kept by the fixture")
        nobody.delenv(name)
    nobody.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    home.ensure_home()

    assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["WANDB_CACHE_DIR"] == "/mine"
    assert Path(os.environ["XDG_CACHE_HOME"]).is_dir()
    assert not caplog.messages


def test_a_home_of_the_list_of_users_is_told_to_processes_that_do_not_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "kept by the fixture")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", str(tmp_path), 1))
    home.ensure_home()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.parametrize("name", ["", "to/be/made"])
def test_a_home_that_can_be_written_is_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / name))
    before = dict(os.environ)
    home.ensure_home()
    assert dict(os.environ) == before
    assert not caplog.messages


def test_without_a_place_for_temporary_files_the_remedy_is_said(
    nobody: pytest.MonkeyPatch,
) -> None:
    def none(**_: Any) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    nobody.setattr(tempfile, "mkdtemp", none)
    with pytest.raises(UserError, match=r"temporary files.*/tmp.*set TMPDIR"):
        home.ensure_home()
