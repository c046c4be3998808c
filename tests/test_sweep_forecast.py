"""What a sweep says of its losses while its workers begin."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import sweeps
from experiments.errors import UserError
from sweeps.screen.forecast import combinations
from sweeps.space.grammar import parse
from tests.conftest import TINY


def test_an_interval_has_its_ends_and_what_decides_nothing_one_value() -> None:
    space = parse(["beta=interval(0.5,2)", "lr=interval(0.1,1)", "loss=mse,l1", "seed=3,4"])
    assert list(combinations(space)) == [
        [f"beta={beta}", "lr=0.1", f"loss={loss}", "seed=3"]
        for beta in (0.5, 2.0)
        for loss in ("mse", "l1")
    ]


def test_a_sweep_of_what_decides_nothing_is_one_combination() -> None:
    assert list(combinations(parse(["lr=1e-3,1e-4", "batch_size=16,32"]))) == [
        ["lr=0.001", "batch_size=16"]
    ]


@pytest.mark.slow
def test_a_process_beside_the_workers_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait_for_it(*_: object) -> None:
        (thread,) = [t for t in threading.enumerate() if t.name == "forecast"]
        thread.join()
        raise UserError("no workers in this test")

    monkeypatch.setattr("sweeps.command._launch", wait_for_it)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no workers"):
        sweeps.run([*TINY, "loss=mse,l1", "loss.scale=mean,sum", "latent_dim=4,8"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [row for row in rows if row[:1] in (["mse"], ["l1"])]
    assert [row[:2] for row in rows] == [
        [loss, scale] for loss in ("mse", "l1") for scale in ("mean", "sum")
    ]
    assert [row[-1] for row in rows if row[1] == "mean"] == ["collapse", "collapse"]
    assert "0 of 4, 0 of 8" in " ".join(rows[0])


@pytest.mark.slow
@pytest.mark.trains
def test_a_worker_in_the_command_itself_says_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweeps.run([*TINY, "loss=mse,l1", "max_epochs=1", "hydra.sweeper.n_jobs=0"])
    out = capsys.readouterr().out
    assert out.index("what a loss can pay for") < out.index("trial 0 done")
