"""A record belongs to whoever took its trial last, and is written by nobody else."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import Interrupted, RecordLockedError, Superseded
from experiments.machine.waits import WAITS
from experiments.record import RESULT, Record, discard
from experiments.record.fence import OWNER_FILE, Fence, Owner, _Files, owning, writing
from experiments.record.files import replacing
from experiments.record.logs import only_by_owner
from sweeps.storage.retry import is_away

CONFIG = {"name": "vae", "seed": 0}


def test_whoever_lost_the_trial_writes_nothing_more(tmp_path: Path) -> None:
    record = Record(tmp_path, CONFIG)
    with owning(tmp_path, Owner(3, "sleeper")):
        record.begin()
        record.add_history({"epoch": 0})
        Fence(_Files(tmp_path), Owner(5, "successor")).take()
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        with pytest.raises(Superseded, match="successor"):
            record.end("interrupted", "woken")
        with pytest.raises(Superseded):
            record.add_history({"epoch": 1})
        with pytest.raises(Superseded), replacing(tmp_path / "checkpoints.ckpt") as temporary:
            temporary.write_bytes(b"weights")
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert issubclass(Superseded, Interrupted), "so that a training ends quietly"


def test_a_trial_that_was_taken_over_cannot_be_taken_back(tmp_path: Path) -> None:
    Fence(_Files(tmp_path), Owner(5, "successor")).take()
    with pytest.raises(Superseded), owning(tmp_path, Owner(3, "sleeper")):
        raise AssertionError


def test_the_record_of_a_study_that_was_deleted_may_be_taken(tmp_path: Path) -> None:
    Fence(_Files(tmp_path), Owner(31, "somebody", "a deleted study")).take()
    with owning(tmp_path, Owner(0, "somebody else", "another study")):
        assert _Files(tmp_path).read() == Owner(0, "somebody else", "another study")


def test_a_trial_that_waited_is_anothers_although_its_number_is_the_same(tmp_path: Path) -> None:
    with owning(tmp_path, Owner(3, "first")):
        Fence(_Files(tmp_path), Owner(3, "second")).take()
        with pytest.raises(Superseded, match="second"), writing(tmp_path / "result.json"):
            raise AssertionError


def test_files_elsewhere_and_of_single_runs_are_free(tmp_path: Path) -> None:
    record, other = tmp_path / "vae-0", tmp_path / "vae-1"
    record.mkdir()
    other.mkdir()
    with owning(record, Owner(3, "first")), writing(other / "result.json"):
        pass
    with writing(record / "result.json"):
        pass
    with owning(tmp_path / "nowhere", Owner(3, "first")):
        assert not (tmp_path / "nowhere").exists()


def test_a_broken_owners_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / OWNER_FILE).write_text("{")
    with owning(tmp_path, Owner(3, "first")):
        assert json.loads((tmp_path / OWNER_FILE).read_text()) == {
            "token": 3,
            "process": "first",
            "study": "",
        }


def test_a_record_that_stays_locked_is_nothing_wrong_with_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the lock may be stopped; the trial goes on when it is not."""
    monkeypatch.setenv(WAITS, "0.01")
    with _Files(tmp_path).locked(), pytest.raises(RecordLockedError, match="suspended") as raised:
        Fence(_Files(tmp_path), Owner(5, "successor")).take()
    assert is_away(raised.value)


def test_the_lock_goes_with_a_process_that_dies_in_it(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        _Files(tmp_path).locked().__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    with _Files(tmp_path).locked():
        pass


def files(directory: Path) -> dict[str, bytes]:
    """All that lies below a directory, but what the fence itself needs."""
    paths = [p for p in directory.rglob("*") if p.is_file() and p.name != ".owner.lock"]
    return {str(p.relative_to(directory)): p.read_bytes() for p in paths}


class Successor:
    """Takes a record over, as another process does, and knows what it found."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.found: dict[str, bytes] | None = None

    def take(self, *_: Any, **__: Any) -> None:
        if self.found is None:
            Fence(_Files(self._directory), Owner(5, "successor")).take()
            # Its own checkpoint and file in the making, which are not for others to remove.
            (self._directory / "checkpoints").mkdir(exist_ok=True)
            (self._directory / "checkpoints" / "last.ckpt").write_bytes(b"successor")
            (self._directory / ".result.json.0.part").write_bytes(b"successor")
            self.found = files(self._directory)


@pytest.mark.parametrize(
    "moment",
    [
        "experiments.trial.remove_unfinished",
        "experiments.tracking.csv_logger.FencedCSVLogger.save",
        "experiments.callbacks.Scores.on_validation_epoch_end",
        "experiments.scoring.checkpoint.evaluate",
        "experiments.record.Record.end",
    ],
)
def test_whoever_loses_a_trial_at_any_moment_leaves_all_its_files_alone(
    moment: str,
    tiny: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from experiments.trial import run_trial
    from tests.patches import before

    successor = Successor(tmp_path)
    before(monkeypatch, moment, successor.take)
    handler = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(handler)
    try:
        with owning(tmp_path, Owner(3, "sleeper")), only_by_owner(), pytest.raises(Superseded):
            run_trial(tiny("logger=csv"), tmp_path, in_sweep=True, resumable=True)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert successor.found is not None
    assert files(tmp_path) == successor.found


def test_whoever_lost_a_trial_sends_nothing_more_to_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from pytorch_lightning.loggers import WandbLogger

    from experiments.tracking.wandb.logger import SafeWandbLogger

    sent: list[Any] = []
    monkeypatch.setattr(WandbLogger, "log_metrics", lambda self, *given: sent.append(given))
    logger = SafeWandbLogger(
        failures=(OSError,), stop=threading.Event(), save_dir=str(tmp_path), offline=True
    )
    with owning(tmp_path, Owner(3, "sleeper")):
        logger.log_metrics({"loss": 1.0}, 1)
        Successor(tmp_path).take()
        with pytest.raises(Superseded):
            logger.log_metrics({"loss": 0.5}, 2)
        with pytest.raises(Superseded):
            logger.attempt(sent.append, "the end")
    assert sent == [({"loss": 1.0}, 1)]


def test_whoever_lost_a_trial_that_never_began_leaves_its_directory(tmp_path: Path) -> None:
    record = tmp_path / "vae-0"
    record.mkdir()
    with owning(record, Owner(3, "sleeper")):
        Fence(_Files(record), Owner(5, "successor")).take()
        with pytest.raises(Superseded):
            discard(record)
    assert record.is_dir()
    assert not (record / RESULT).exists()
