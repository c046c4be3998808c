"""What a trial writes can be read again, whole, by anybody."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import UserError
from experiments.machine import code
from experiments.record import (
    SCHEMA_VERSION,
    Record,
    discard,
    read_config,
    read_result,
    write_json,
)

CONFIG: dict[str, Any] = {
    "name": "vae",
    "seed": 3,
    "loss": {"name": "custom", "options": {}},
    "objective": ["psnr", "l1"],
}


def test_a_record_reads_back_what_was_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "trial", CONFIG)
    record.begin()
    assert read_result(tmp_path / "trial")["status"] == "running"
    record.update(metrics={"val": {"psnr": 20.5}})
    record.end("completed")

    result = read_result(tmp_path / "trial")
    assert read_config(tmp_path / "trial") == CONFIG
    assert (result["schema"], result["status"], result["seed"]) == (SCHEMA_VERSION, "completed", 3)
    assert result["metrics"] == {"val": {"psnr": 20.5}}
    assert result["parameters"] == {
        "name": "vae",
        "seed": 3,
        "loss.name": "custom",
        "loss.options": {},
        "objective": ["psnr", "l1"],
    }
    assert result["timings"]["total_seconds"] >= 0


def test_a_failed_trial_keeps_its_reason(tmp_path: Path) -> None:
    record = Record(tmp_path, CONFIG)
    record.begin()
    record.end("failed", "out of memory")
    assert read_result(tmp_path)["reason"] == "out of memory"


def test_nan_and_infinity_become_null_so_that_any_json_reader_can_read_it(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1.5], "c": -math.inf})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": None}
    assert "NaN" not in text


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_history_is_a_line_a_row(tmp_path: Path) -> None:
    record = Record(tmp_path, CONFIG)
    record.begin()
    for row in ({"epoch": 0, "val/psnr": 12.0}, {"epoch": 1, "val/psnr": math.nan}):
        record.add_history(row)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"epoch": 0, "val/psnr": 12.0},
        {"epoch": 1, "val/psnr": None},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a record is a trial's directory with result.json"),
        ("{", "a record is a trial's directory with result.json"),
        ("[]", "must hold a JSON object, but holds list"),
        ('{"schema": 99}', "must have schema 1, but .* has 99"),
        ("{}", "must have schema 1, but .* has None"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_result(tmp_path)


def test_discard_removes_what_hydra_wrote_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / "a" / "b"
    (begun / ".hydra").mkdir(parents=True)
    (begun / "run.log").write_text("")
    discard(begun)
    assert not (tmp_path / "a").exists()

    kept = tmp_path / "c"
    kept.mkdir()
    (kept / "thesis.txt").write_text("dear")
    discard(kept)
    assert (kept / "thesis.txt").exists()


def test_an_image_without_git_knows_the_commit_that_it_was_built_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code._commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("VAESWEEP_REVISION", "c0ffee")
    try:
        revision = code.code_revision()
        assert (revision["commit"], revision["dirty"]) == ("c0ffee", None)
    finally:
        code._commit.cache_clear()
