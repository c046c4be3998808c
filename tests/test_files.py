"""Replacing files whole or not at all."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from experiments.record.files import remove_unfinished, replacing


def test_a_file_is_replaced_by_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replacing(path, durable=True) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def break_off(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), replacing(path) as temporary:
        break_off(temporary)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def _replace_often(path: Path, text: str) -> None:
    for _ in range(300):
        with replacing(path) as temporary:
            temporary.write_text(text)


def test_processes_that_replace_one_file_at_once_do_not_hinder_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_replace_often, args=(path, 999 * name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert path.read_text() in {999 * "a", 999 * "b"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = tmp_path / "checkpoints" / "best.ckpt"
    kept.touch()
    (kept.parent / ".best.ckpt.123.part").touch()
    remove_unfinished(tmp_path)
    assert list(kept.parent.iterdir()) == [kept]
