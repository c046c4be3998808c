"""Where a report is written, and the commands that it proposes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.comparison import compare
from analysis.load import load
from analysis.report.commands import commands
from analysis.report.gather import gather
from experiments.record import read_result
from tests.planted import Planted, of_sweep, runs

ROOT = Path(__file__).parents[1]


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis.report", *arguments],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_report_replaces_files_only(tiny_sweep: Path, tmp_path: Path) -> None:
    """Not the link that leads to one, and nothing that is none, such as a terminal."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link.csv", tmp_path / "file.csv"
    os.mkfifo(pipe)
    refused = report(str(tiny_sweep), "--format", "csv", "--out", str(pipe))
    assert refused.returncode == 2
    assert f"`--out` must be a file, new or to be replaced, but {pipe} is none" in refused.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    file.write_text("old")
    link.symlink_to(file)
    assert report(str(tiny_sweep), "--format", "csv", "--out", str(link)).returncode == 0
    assert link.is_symlink()
    assert file.read_text().startswith("trial,")


def test_a_margin_without_a_value_is_quoted_as_it_was_typed(tmp_path: Path) -> None:
    refused = report(str(tmp_path), "--margin", "psnr")
    assert refused.returncode != 0
    assert "must be METRIC=VALUE, such as psnr=0.2, but got 'psnr'" in refused.stderr


def test_the_trial_to_train_again_is_one_of_what_the_answer_says(
    tiny_sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = load(tiny_sweep)
    content = gather(runs, [str(tiny_sweep)], tmp_path)
    (again,) = [one.text for one in content.commands if "experiments.rerun" in one.text]
    used = runs.trials.set_index("trial").loc[list(content.recommended), "directory"]
    assert again.split()[-1] in list(used)


def test_no_command_adds_to_a_part_of_a_sweep(tiny_sweep: Path) -> None:
    """The sweep's own would train nothing, or other trials."""
    one = tiny_sweep / "0"
    assert read_result(one)["status"] == "completed"
    assert compare(load(one)).settling is None


@pytest.mark.slow
def test_what_cannot_be_done_is_refused_before_any_work(tiny_sweep: Path, tmp_path: Path) -> None:
    for arguments, rule in (
        (["--out", "/proc/report.html"], "`--out` must be a file in a directory that can be"),
        (["--out", str(tmp_path / "no/report.html")], "No such file or directory"),
        (["--format", "csv", "--margin", "psnr=1"], "`--margin` must go with an answer"),
    ):
        refused = report(str(tiny_sweep), *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert rule in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_sweep_with_failures_is_continued_with_them(tmp_path: Path) -> None:
    folder = tmp_path / "cats/sweep"
    folder.mkdir(parents=True)
    whole = of_sweep(runs([Planted("mse"), Planted("ssim")]), folder, ["loss=mse,ssim"])
    broken = [Planted("mse"), Planted("ssim", status="failed")]
    failed = of_sweep(runs(broken), folder, ["loss=mse,ssim"])
    assert [one.text for one in commands(whole, [], [])] == ["python run.py -m loss=mse,ssim"]
    (again,) = commands(failed, [], [])
    assert again.purpose == "continue the sweep cats, and train again what failed"
    assert again.text == "python run.py -m loss=mse,ssim sweep.retry_failed=true"
