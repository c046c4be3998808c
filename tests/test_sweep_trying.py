"""What is tried before any trial: what can never work is refused, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sweeps
from experiments.errors import UserError
from losses import trust
from sweeps.workers.trying import try_parts
from tests.conftest import ROOT, TINY, Compose
from tests.waiting import PATIENCE
from tests.words import trusting

MODULE = """
import os

def dies(x_hat, x):
    os._exit(9)

def exits(x_hat, x):
    raise SystemExit(3)

def fine(x_hat, x):
    return (x_hat - x).square().flatten(1).mean(1)
"""


@pytest.fixture
def custom(compose: Compose, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A config with a loss of the module above."""
    (tmp_path / "my_odd_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_odd_losses", raising=False)
    trusting(monkeypatch, "my_odd_losses")
    return lambda name: compose("loss=custom", f"loss.target=my_odd_losses.{name}")


@pytest.mark.slow
def test_what_suits_some_of_the_sizes_is_no_mistake(compose: Compose) -> None:
    for sizes in ((32, 64), (64, 32)):  # in any order
        first, second = (f"data.size={size}" for size in sizes)
        window = ["loss=ssim", "loss.window_size=33"]
        try_parts([compose(first, "loss=ssim"), compose(first, *window), compose(second)], None)
    with pytest.raises(UserError, match="33 pixels or more"):
        try_parts([compose(*window, "data.size=32"), compose("data.size=16")], None)
    classic = [compose("model=classic", f"data.size={size}") for size in (32, 64)]
    with pytest.raises(UserError, match="takes square images of side 128"):
        try_parts(classic, None)


def test_batches_larger_than_the_split_are_refused_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`batch_size` must be at most the number of images to"):
        sweeps.run(["name=big", *TINY, "batch_size=16,100"])
    assert not any((tmp_path / "outputs").rglob("result.json"))


def test_code_that_ends_its_process_is_a_mistake(custom: Any) -> None:
    try_parts([custom("fine")], None)
    with pytest.raises(UserError, match=r"loss\.target=my_odd_losses\.exits` failed: SystemExit"):
        try_parts([custom("exits")], None)


@pytest.mark.slow
def test_a_process_that_ends_is_told_in_words(custom: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "my_odd_losses")
    processes = multiprocessing.get_context("spawn")
    try_parts([custom("fine")], processes)
    with pytest.raises(UserError, match="the process that builds them has ended"):
        try_parts([custom("dies")], processes)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker loads for itself")
@pytest.mark.parametrize("end", ["", "; os._exit(0)"], ids=["later", "at once"])
def test_the_process_that_loads_libraries_ends_with_its_command(tmp_path: Path, end: str) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(100_000)")
    code = "import os; from sweeps.workers import launch; launch.prepare_processes(preload=True); "
    code += f"print('told', flush=True){end}"
    done = subprocess.run(  # which waits until nobody can write any more
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
