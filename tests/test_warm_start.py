"""`sweep.warm_start`: a search begins where past ones ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import sweeps
from experiments.errors import UserError
from experiments.record.addresses import sqlite_address
from sweeps.search.memory import ends, first_values
from sweeps.space.dimensions import Dimension
from sweeps.storage.attributes import budgeted
from tests.simulated import SimulatedTask

LR = "lr=tag(log,interval(1e-4,1e-2))"
DIMENSIONS = (
    Dimension("loss", CategoricalDistribution(("mse", "l1")), ("mse", "l1")),
    Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False),
    Dimension("latent_dim", IntDistribution(8, 128), enumerated=False),
)


def record(folder: Path, psnr: float | None, *, status: str = "completed", **values: Any) -> None:
    """A trial's, with what is read of it."""
    folder.mkdir(parents=True)
    loss = values.pop("loss", "mse")
    content = {
        "status": status,
        "parameters": {"loss.name": loss, **values},
        "metrics": {"val": {"psnr": psnr, "kl": 1.0}},
    }
    (folder / "result.json").write_text(json.dumps(content))


def test_trials_that_ended_are_read_best_first(tmp_path: Path) -> None:
    for number, psnr in enumerate((17.0, 19.0, 18.0)):
        record(tmp_path / "old/sweep" / str(number), psnr, lr=number + 1)
    record(tmp_path / "old/sweep/3", 25.0, lr=9.0, status="pruned")
    record(tmp_path / "old/sweep/4", None, lr=9.0)
    (tmp_path / "old/sweep/5").mkdir()
    (tmp_path / "old/sweep/5/result.json").write_text("{")
    assert [one["lr"] for one in ends(str(tmp_path), ["psnr"])] == [2, 3, 1]
    assert [one["lr"] for one in ends(str(tmp_path / "old/sweep"), ["psnr"])] == [2, 3, 1]


def test_the_records_and_the_study_of_a_sweep_say_the_same(tiny_sweep: Path) -> None:
    study = f"{sqlite_address(tiny_sweep / 'study.db')}#tiny"
    of_records, of_study = (ends(source, ["psnr"]) for source in (str(tiny_sweep), study))
    assert {json.dumps(one) for one in of_records} == {json.dumps(one) for one in of_study}
    assert len(of_study) > 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "outputs/missing",
            "directories of sweeps that exist, .* got 'outputs/missing'",
        ),
        ("sqlite:///missing.db#old", "missing.db"),
        (".", r"completed trials and their psnr and kl, but \. has none"),
    ],
)
def test_what_is_no_past_sweep_is_refused(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "0", 17.0, status="failed")
    with pytest.raises(UserError, match=says):
        ends(source, ["psnr", "kl"])


def test_a_level_begins_with_its_own_best_or_the_best_of_all() -> None:
    old = [{"loss.name": "ssim", "lr": 1e-3}, {"loss.name": "mse", "lr": 2e-3, "latent_dim": 8}]
    usual = {"loss.name": "mse", "lr": 5e-3, "latent_dim": 32}
    found = {loss: first_values([old], usual, DIMENSIONS, {"loss": loss}) for loss in ("mse", "l1")}
    assert found["mse"] == [{"lr": 2e-3, "latent_dim": 8}, {"lr": 5e-3, "latent_dim": 32}]
    assert found["l1"] == [{"lr": 1e-3}, {"lr": 5e-3, "latent_dim": 32}]


def test_values_outside_of_the_space_are_left_to_the_sampler() -> None:
    old = [{"loss.name": "kornia_ssim", "lr": 0.5, "latent_dim": 64}]
    found = first_values([old], {"lr": 3.0}, DIMENSIONS, {})
    assert found == [{"latent_dim": 64}]
    assert first_values([old, old], {"latent_dim": 64}, DIMENSIONS, {}) == found


def test_a_sweep_begins_with_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (loss, rate) in enumerate((("mse", 3e-3), ("l1", 4e-4), ("mse", 9e-3))):
        record(Path("old/sweep", str(number)), 20.0 - number, loss=loss, lr=rate)
    task = SimulatedTask(log=str(tmp_path / "log"))
    space = ["loss=mse,l1", LR, "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=0"]
    sweep = sweeps.run([*space, "sweep.warm_start=[old/sweep]"], task=task)
    rates: dict[str, list[float]] = {}
    for trial in sweep.study.trials:
        rates.setdefault(trial.params["loss"], []).append(trial.params["lr"])
    assert {loss: found[:2] for loss, found in rates.items()} == {
        "mse": [3e-3, 1e-3],
        "l1": [4e-4, 1e-3],
    }
    assert len({*rates["mse"]}) == 4


def test_a_sweep_that_is_continued_tries_what_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("old/sweep/0"), 20.0, lr=3e-3)
    task = SimulatedTask(log=str(tmp_path / "log"))
    rates: list[float] = []
    for budget, more in ((2, []), (4, ["sweep.warm_start=old/sweep"]), (6, [])):
        search = [LR, f"hydra.sweeper.n_trials={budget}", "hydra.sweeper.n_jobs=0"]
        sweep = sweeps.run([*search, *more], task=task)
        rates = [t.params["lr"] for t in budgeted(sweep.study.trials)]
    assert 1e-3 in rates[:2]
    assert 3e-3 in rates[2:4]
    assert len({*rates}) == 6


def test_a_grid_begins_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("old/sweep/0"), 20.0, lr=1e-3)
    with pytest.raises(UserError, match=r"`sweep.warm_start` must be left out of a grid"):
        sweeps.run(["lr=1e-3,1e-2", "sweep.warm_start=[old]"], task=SimulatedTask(log="log"))


@pytest.mark.parametrize("value", ["[3]", "4", "[[a]]"])
def test_a_setting_that_is_no_list_of_sources_is_refused(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"`sweep.warm_start` must be"):
        sweeps.run([LR, f"sweep.warm_start={value}"], task=SimulatedTask(log="log"))
