"""A disk that fills up while a trial trains costs the trial nothing but time."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import pytorch_lightning as pl

from experiments import resume
from experiments.errors import PASSING, DiskFullError, is_disk_full
from experiments.record import LAST, RESULT, Record, read_result, write_json
from experiments.record import files as record_files
from experiments.record.single import single_run
from experiments.trial import run_trial
from sweeps.workers import launch
from tests.test_resume import EIGHT_EPOCHS, Compose, assert_same, finish


class FullAfter(pl.Callback):
    """Lets no file of this process grow beyond so many bytes, once there is a last checkpoint.

    Whoever writes more is told so by the system, as on a full disk or by a quota.
    """

    def __init__(self, record: Path, most: int) -> None:
        self._last, self._most = record / LAST, most

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._last.exists():
            limit_files(self._most)


def limit_files(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture(autouse=True)
def _without_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def with_room_again() -> Iterator[None]:
    try:
        yield
    finally:
        limit_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("most", "status", "devices"),
    [
        (100_000, "interrupted", 1),  # the last checkpoint has 200,000 bytes, the best one 50,000
        (2_000, "running", 1),  # nor can the end be written
        (100_000, "interrupted", 2),
    ],
)
def test_it_continues_from_its_checkpoint(
    tiny: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    status: str,
    devices: int,
) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    config = tiny(*EIGHT_EPOCHS, f"trainer.devices={devices}")
    record = tmp_path / "record"
    with (
        pytest.raises(DiskFullError, match=f"{record} takes no more; make room"),
        with_room_again(),
    ):
        run_trial(config, record, resumable=True, callbacks=[FullAfter(record, most)])
    assert read_result(record)["status"] == status
    assert (record / LAST).exists()
    found = finish(config, record)
    assert read_result(record)["resumed"]
    assert_same(found, finish(config, tmp_path / "whole"))


@pytest.mark.slow
def test_an_error_without_a_number_is_of_the_disk_if_that_takes_nothing(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Pillow's encoders fail.
    class Encoder(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            raise OSError("encoder error -2 when writing image file")

    for is_taken, status in ((False, "interrupted"), (True, "failed")):
        monkeypatch.setattr(record_files, "takes_files", lambda _, is_taken=is_taken: is_taken)
        with pytest.raises(OSError if is_taken else DiskFullError):
            run_trial(tiny(), tmp_path / status, callbacks=[Encoder()])
        assert read_result(tmp_path / status)["status"] == status


def test_the_disk_itself_is_asked(tmp_path: Path) -> None:
    assert record_files.takes_files(tmp_path)
    with with_room_again():
        limit_files(1000)
        assert not record_files.takes_files(tmp_path)
    assert record_files.takes_files(tmp_path / "absent")  # somebody removed it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", ["completed", "pruned", "failed"])
def test_what_it_continues_from_goes_only_once_its_end_is_written(
    tiny: Compose, tmp_path: Path, status: str
) -> None:
    record = Record(tmp_path, tiny())
    record.begin()
    last = tmp_path / LAST
    last.parent.mkdir()
    last.touch()
    with with_room_again():
        limit_files(1000)
        with pytest.raises(OSError, match="large") as refused:
            record.end(status)
    assert is_disk_full(refused.value)
    assert (read_result(tmp_path)["status"], last.exists()) == ("running", True)
    record.end(status)
    assert (read_result(tmp_path)["status"], last.exists()) == (status, False)


def fill_up(record: Path, status: str) -> NoReturn:
    write_json(record / RESULT, {"schema": 1, "status": status})
    raise DiskFullError


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_single_run_says_how_to_continue_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    caplog.set_level(logging.INFO)
    for word in ("give the same command again", "to continue: "):
        with pytest.raises(DiskFullError), single_run(tmp_path):
            fill_up(tmp_path, status)
        assert word in caplog.text
        (tmp_path / LAST).parent.mkdir(exist_ok=True)
        (tmp_path / LAST).touch()


def test_a_command_whose_workers_die_of_a_full_disk_says_so_and_not_what_a_log_has_left(
    tmp_path: Path,
) -> None:
    plan: Any = SimpleNamespace(directory=tmp_path, session="s")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "s-0.log").write_text("a piece of a traceback")
    assert "a piece of a traceback" in launch.describe_death(plan, 0, PASSING)
    limit_files(0)
    said = launch.describe_death(plan, 0, PASSING)
    assert said == f"the last one ended with 75: {tmp_path}/workers takes no more files; make room"
