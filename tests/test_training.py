"""What the suite promises of its own trainings: alive models, marks, and both precisions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from experiments.machine import device
from experiments.trial import run_trial
from tests import training
from tests.alive import assert_alive
from tests.conftest import TINY, Compose


@pytest.mark.trains
def test_a_model_whose_latents_do_nothing_is_not_alive(trained: Path, tmp_path: Path) -> None:
    record = shutil.copytree(trained, tmp_path / "record")
    path = record / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["network.from_latent.weight"].zero_()
    torch.save(content, path)
    assert_alive(trained)
    with pytest.raises(AssertionError, match="must be alive: from -3 to 3 each latent unit"):
        assert_alive(record)


def test_a_test_that_trains_and_is_not_marked_so_fails(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"must be marked so: @pytest\.mark\.trains"):
        run_trial(compose(*TINY), tmp_path / "record", in_sweep=True)


def precision() -> str:
    return device.choose_hardware(
        device="cpu", precision="auto", memory_format="auto", threads=None
    ).precision


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_multiplies_bfloat16", device._multiplies_bfloat16)


@pytest.mark.usefixtures("_as_it_was")
def test_the_suite_can_be_run_in_either_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    before = precision()
    monkeypatch.setenv(training.PRECISION, "other")
    training.choose_precision()
    assert {before, precision()} == {"32-true", "bf16-mixed"}
    for wanted, found in (("float32", "32-true"), ("bfloat16", "bf16-mixed")):
        monkeypatch.setenv(training.PRECISION, wanted)
        training.choose_precision()
        assert precision() == found
    monkeypatch.setenv(training.PRECISION, "float8")
    with pytest.raises(pytest.UsageError, match="must be one of float32, bfloat16, other, but got"):
        training.choose_precision()
