"""A record belongs to whoever took its trial last, and is written by nobody else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from experiments.errors import Interrupted, Superseded
from experiments.fence import OWNER_FILE, Fence, Owner, _Files, owning, writing
from experiments.files import replacing
from experiments.record import Record

CONFIG = {"name": "vae", "seed": 0}


def test_whoever_lost_the_trial_writes_nothing_more(tmp_path: Path) -> None:
    record = Record(tmp_path, CONFIG)
    with owning(tmp_path, 3, "sleeper"):
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
    with pytest.raises(Superseded), owning(tmp_path, 3, "sleeper"):
        raise AssertionError


def test_a_trial_that_waited_is_anothers_although_its_number_is_the_same(tmp_path: Path) -> None:
    with owning(tmp_path, 3, "first"):
        Fence(_Files(tmp_path), Owner(3, "second")).take()
        with pytest.raises(Superseded, match="second"), writing(tmp_path / "result.json"):
            raise AssertionError


def test_files_elsewhere_and_of_single_runs_are_free(tmp_path: Path) -> None:
    record, other = tmp_path / "vae-0", tmp_path / "vae-1"
    record.mkdir()
    other.mkdir()
    with owning(record, 3, "first"), writing(other / "result.json"):
        pass
    with writing(record / "result.json"):
        pass
    with owning(tmp_path / "nowhere", 3, "first"):
        assert not (tmp_path / "nowhere").exists()


def test_a_broken_owners_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / OWNER_FILE).write_text("{")
    with owning(tmp_path, 3, "first"):
        assert json.loads((tmp_path / OWNER_FILE).read_text()) == {"token": 3, "process": "first"}


def test_the_lock_goes_with_a_process_that_dies_in_it(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        _Files(tmp_path).locked().__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    with _Files(tmp_path).locked():
        pass
