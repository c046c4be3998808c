"""The tabular benchmark: what its table says, and that searches are replayed against it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.search import interval, regret, share_of_time
from benchmarks.tabular import recording
from benchmarks.tabular.policies import DEFAULT, POLICIES
from benchmarks.tabular.replay import Trace, replay
from benchmarks.tabular.table import AXES, FILE, METRICS, Task, equal_truth, tasks

LOSSES = ("mse", "ssim")
GRID = {"lr": (1e-4, 1e-3, 1e-2), "latent_dim": (8, 32, 128), "beta": (0.5, 2.0)}
EPOCHS = 9


def end_of(loss: str, lr: float, latent_dim: float, beta: float) -> float:
    """PSNR: best for lr=1e-3, and the more values and the less beta the better."""
    return {"mse": 20.0, "ssim": 18.0}[loss] - abs(math.log10(lr) + 3) + latent_dim / 100 - beta


def rows() -> Iterator[dict[str, Any]]:
    points: Any = itertools.product(LOSSES, *GRID.values(), (0, 1))
    for loss, lr, latent_dim, beta, seed in points:
        end = end_of(loss, lr, latent_dim, beta) + seed / 100
        for epoch in range(1, EPOCHS + 1):
            yield {
                "task": "small",
                "loss": loss,
                "lr": lr,
                "latent_dim": latent_dim,
                "beta": beta,
                "seed": seed,
                "epoch": epoch,
                "start_seconds": 1.0,
                "seconds": 2.0 if loss == "ssim" else 1.0,
                **dict.fromkeys(METRICS, ""),
                "psnr": end - 4 / epoch,
            }


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    file = tmp_path_factory.mktemp("table") / "trainings.csv.xz"
    recording.write(rows(), file)
    return tasks(file)["small"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_table_is_read_as_it_was_written(task: Task) -> None:
    assert (task.losses, task.seeds, task.epochs) == (LOSSES, (0, 1), EPOCHS)
    assert {key: tuple(values) for key, values in task.axes.items()} == GRID
    assert task.start_seconds == 1.0
    point = {"loss": "ssim", "lr": 1e-3, "latent_dim": 8, "beta": 2.0}
    curve = task.curve(point, 1)
    assert curve[-1] == pytest.approx(end_of("ssim", 1e-3, 8, 2.0) + 0.01 - 4 / EPOCHS)
    assert np.isnan(task.curve(point, 1, "kl")).all()
    assert task.seconds_of(point) == 2.0


def test_between_the_points_logarithms_count(task: Task) -> None:
    def end(**values: Any) -> float:
        given = {"loss": "mse", "lr": 1e-3, "latent_dim": 8, "beta": 0.5} | values
        return float(task.curve(given, 0)[-1])

    assert end(lr=10**-3.5) == pytest.approx((end(lr=1e-4) + end(lr=1e-3)) / 2)
    assert end(latent_dim=16) == pytest.approx((end(latent_dim=8) + end(latent_dim=32)) / 2)
    assert end(lr=1e-2, latent_dim=128, beta=2.0) == pytest.approx(
        end_of("mse", 1e-2, 128, 2.0) - 4 / EPOCHS
    )
    with pytest.raises(ValueError, match=r"lr must lie within 0.0001 and 0.01, but got 0.1"):
        end(lr=0.1)


def test_levels_of_equal_truth_end_alike(task: Task) -> None:
    equal = equal_truth(task, 0, losses=3)
    assert equal.losses == ("level0", "level1", "level2")
    ends = equal.curves["psnr"][..., -1].reshape(3, -1).mean(1)
    assert np.ptp(ends) < 0.05
    early = equal.curves["psnr"][..., 2].reshape(3, -1).mean(1)
    assert early[0] > early[1] > early[2], "they learn at different speeds"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "policy", ["stock", "levels: tpe, promotion by rank 4", "levels: tpe, median", DEFAULT]
)
def test_a_replayed_search_repeats_itself(task: Task, policy: str, workers: int) -> None:
    one, two = (
        replay(task, POLICIES[policy], trials=14, workers=workers, seed=1) for _ in range(2)
    )
    assert one == two
    assert 2 <= len(one.found) <= 14
    assert one.epochs <= 14 * EPOCHS
    for when, value, values in one.found:
        assert value == pytest.approx(float(task.curve(values, 1).max()))
        assert 0 < when <= one.seconds
    if policy != "stock":
        assert {values["loss"] for *_, values in one.found} == {*LOSSES}


def test_the_stock_sweeper_waits_for_the_slowest_of_a_batch(task: Task) -> None:
    found = replay(task, POLICIES["stock"], trials=6, workers=3, seed=0)
    costs = [1 + EPOCHS * (2 if values["loss"] == "ssim" else 1) for *_, values in found.found]
    assert found.seconds == max(costs[:3]) + max(costs[3:])
    assert found.epochs == 6 * EPOCHS


def test_workers_share_the_work(task: Task) -> None:
    alone, four = (
        replay(task, POLICIES["random"], trials=16, workers=n, seed=0).seconds for n in (1, 4)
    )
    assert alone / 4 <= four < alone / 2.5


def test_a_search_begins_where_another_ended(task: Task) -> None:
    good = {"loss": "mse", "lr": 1e-3, "latent_dim": 128, "beta": 0.5}
    past = Trace(found=[(1.0, 9.0, good | {"lr": 1e-2}), (2.0, 20.0, good)])
    found = replay(task, POLICIES[DEFAULT], trials=8, workers=1, seed=0, past=[past])
    assert good in [values for *_, values in found.found]


def test_what_is_told_of_a_search(task: Task) -> None:
    stock = Trace([(10.0, 20.0, {"loss": "mse"}), (20.0, 19.0, {"loss": "mse"})], 40.0)
    assert share_of_time(Trace([(8.0, 19.95, {})], 30.0), stock) == 0.2
    assert share_of_time(Trace([(8.0, 19.85, {})], 30.0), stock) == 1.0, "it never came there"
    assert share_of_time(Trace([(60.0, 20.0, {})], 60.0), stock) == 1.0
    assert stock.time_to(19.5) == 10.0
    assert stock.time_to(21) == 40.0
    tops = [float(np.nanmax(task.curves["psnr"][place, ..., 0, :])) for place in range(2)]
    best: Any = [(1.0, tops[0], {"loss": "mse"}), (2.0, tops[1] - 1, {"loss": "ssim"})]
    assert regret(task, Trace(best, 2.0), 0) == pytest.approx(0.5)
    low, high = interval([1.0] * 50)
    assert low == high == 1.0


def test_only_seeds_whose_grid_is_complete_are_written(
    monkeypatch: pytest.MonkeyPatch, tiny_sweep: Path
) -> None:
    grid = {"loss": "mse", "lr": "5e-3,1e30", "seed": "0,1"}  # with 1e30 it failed, seed 1 only
    monkeypatch.setattr(recording, "GRID", grid)
    written = list(recording.rows_of("tiny", tiny_sweep))
    assert {(row["loss"], row["lr"], row["seed"]) for row in written} == {("mse", 5e-3, 1)}
    assert [row["epoch"] for row in written] == [10, 20], "the validations"
    assert all(row["seconds"] and row["psnr"] for row in written)
    monkeypatch.setattr(recording, "GRID", grid | {"seed": "0"})
    with pytest.raises(ValueError, match="must hold 2 trainings of a seed"):
        list(recording.rows_of("tiny", tiny_sweep))


def test_the_recorded_table_is_whole() -> None:
    assert FILE.stat().st_size < 2e6
    known = tasks()
    assert {*known} == {"drawn", "photos", "cifar"}
    for task in known.values():
        assert len(task.losses) >= 4
        assert [len(task.axes[key]) for key in AXES] == [8, 4, 2]
        assert task.epochs == 27
        assert np.isfinite(task.curves["psnr"]).mean() > 0.95
