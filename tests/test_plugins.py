"""What a module of the user's own registers is known to every process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.machine.plugins import VARIABLE
from tests.conftest import ROOT, TINY
from tests.waiting import PATIENCE

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs Python in a folder with the module that the page on developing shows."""
    page = (ROOT / "docs/developing.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page.partition("\n## From outside")[2], re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(shown, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "VAESWEEP_CACHE": str(tmp_path / "cache"),
    }

    def run(*arguments: str, plugins: str = "my_metrics") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env=environment | ({VARIABLE: plugins} if plugins else {}),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    return run


@pytest.mark.trains
@pytest.mark.slow
def test_a_metric_of_a_module_is_known_to_ranks_reports_and_repeated_trials(
    command: Command, tmp_path: Path
) -> None:
    wanted = [*TINY, "objective=edges", "max_epochs=1", "hydra.run.dir=first"]
    done = command(str(ROOT / "run.py"), *wanted, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "first/result.json").read_text())
    assert result["objective"]["names"] == ["edges"]
    assert result["hardware"]["processes"] == 2
    done = command("-m", "analysis.report", "first", "--out", "report.html")
    assert done.returncode == 0, done.stderr
    assert "Edge error" in (tmp_path / "report.html").read_text(encoding="utf-8")
    done = command("-m", "serving.generate", "--checkpoint", "first", "--out", "grid.png")
    assert done.returncode == 0, done.stderr
    done = command("-m", "experiments.rerun", "first", "--out", "again")
    assert json.loads((tmp_path / "again/result.json").read_text())["status"] == "completed"

    without = (["analysis.report", "first"], ["experiments.rerun", "first"])
    for arguments in without:
        done = command("-m", *arguments, plugins="")
        assert done.returncode == 2
        assert "but got 'edges'; where it comes from outside, put VAESWEEP_PLUGINS" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_module_that_cannot_be_imported_is_told(command: Command) -> None:
    done = command("-m", "analysis.report", "first", plugins="my_metrics, nonsuch")
    assert done.returncode == 2
    assert "must name modules that can be imported" in done.stderr
    assert "but nonsuch gives ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_module_that_takes_a_name_is_told_both(command: Command, tmp_path: Path) -> None:
    text = (tmp_path / "my_metrics.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(text.replace('name="edges"', 'name="psnr"'))
    done = command("-m", "analysis.report", "first", plugins="mine")
    assert done.returncode == 2
    assert "error: mine, of VAESWEEP_PLUGINS, gives ValueError: a metric must have" in done.stderr
    assert "'psnr', for my_metrics:edges, is already that of experiments.metrics" in done.stderr
    assert "Traceback" not in done.stderr
