"""One configuration, and what a command says of a study that it goes on with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps
from experiments.errors import UserError
from sweeps.command import Sweep
from sweeps.space.dimensions import Space
from sweeps.storage.attributes import SAME_AS
from sweeps.study.definition import _check_base
from tests.simulated import SimulatedTask

LR = "lr=tag(log,interval(1e-4,1e-2))"

RunSweep = Callable[..., Sweep]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> RunSweep:
    """Run a sweep of simulated trials; what it said is in `caplog`."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)

    def run_sweep(*overrides: str) -> Sweep:
        caplog.clear()
        task = SimulatedTask(log=str(tmp_path / "log"))
        return sweeps.run([*overrides, "hydra.sweeper.n_jobs=0"], task=task)

    return run_sweep


def trained(sweep: Sweep) -> list[dict[str, Any]]:
    """Parameters of the trials that were trained, not copied."""
    return [trial.params for trial in sweep.study.trials if SAME_AS not in trial.user_attrs]


def seeds(sweep: Sweep) -> list[int]:
    return [trial.user_attrs["seed"] for trial in sweep.study.trials]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "hydra.sweeper.n_trials=5"],
        ["loss=ssim", "loss.window_size=7", "hydra/sweeper/sampler=grid"],
    ],
)
def test_one_configuration_is_a_sweep_of_one_trial(
    run: RunSweep, caplog: pytest.LogCaptureFixture, overrides: list[str]
) -> None:
    sweep = run(*overrides)
    assert [trial.state.name for trial in sweep.study.trials] == ["COMPLETE"]
    assert seeds(sweep) == [3 if "seed=3" in overrides else 0]
    again = run(*overrides)
    assert len(again.study.trials) == 1
    assert "nothing is left to train: all combinations of study 'vae' have begun" in caplog.text


@pytest.mark.slow
def test_another_seed_is_another_trial(run: RunSweep) -> None:
    run("seed=3")
    assert seeds(run("seed=4")) == [3, 4]
    assert seeds(run("seed=3,4,5")) == [3, 4, 5]


@pytest.mark.slow
def test_one_configuration_grows_into_a_grid_and_back(
    run: RunSweep, caplog: pytest.LogCaptureFixture
) -> None:
    run("loss=mse")
    assert trained(run("loss=mse,l1")) == [{}, {"loss": "l1"}], "mse is the first again"
    assert "nothing is left" not in caplog.text
    assert trained(run("loss=ssim"))[2:] == [{"loss": "ssim"}], "it is not done with the others"
    trials = len(run("loss=l1").study.trials)
    assert trials == len(run("loss=ssim").study.trials) == 4
    assert "nothing is left to train" in caplog.text


@pytest.mark.slow
def test_another_configuration_under_the_same_name_is_refused(run: RunSweep) -> None:
    run("loss=mse")
    with pytest.raises(UserError, match=r"loss\.name: 'mse' there, 'l1' here.*another name=\.\.\."):
        run("loss=l1")


def test_a_sweep_of_an_older_version_is_told_to_be_one() -> None:
    now = {"lr": 1e-3, "loss.name": "mse", "model.blocks": 1, "data.flip": False, "data.crop": 1.0}
    before = {key: now[key] for key in ("lr", "loss.name", "data.flip")}
    with pytest.raises(UserError, match=r"'cats' is of an older one, which had no data\.crop;"):
        _check_base("cats", {"base": before, "space": []}, now, Space(()))


@pytest.mark.slow
def test_an_option_of_one_of_several_losses_must_stay_the_same(run: RunSweep) -> None:
    sweep = run("loss=mse,ssim", "loss.window_size=7")
    assert trained(sweep) == [{"loss": "mse"}, {"loss": "ssim"}]
    with pytest.raises(UserError, match=r"loss=ssim: loss\.window_size: 7 there, 9 here"):
        run("loss=mse,ssim", "loss.window_size=9")
    with pytest.raises(UserError, match=r"loss=ssim: loss\.window_size: 7 there, 11 here"):
        run("loss=mse,ssim")
    wider = run("loss=mse,ssim,l1,ms_ssim", "loss.window_size=7")
    assert trained(wider)[2:] == [{"loss": "l1"}, {"loss": "ms_ssim"}]


@pytest.mark.slow
def test_a_search_whose_budget_is_spent_says_so(
    run: RunSweep, caplog: pytest.LogCaptureFixture
) -> None:
    run(LR, "hydra.sweeper.n_trials=2")
    assert "nothing is left" not in caplog.text
    assert len(run(LR, "hydra.sweeper.n_trials=2").study.trials) == 2
    assert "study 'vae' has had its 2 trials; to add some: hydra.sweeper.n_trials=4" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ([LR, "hydra/sweeper/sampler=random"], "by GPSampler before, by RandomSampler now"),
        ([LR, "beta=interval(1,2)"], "`beta` not searched before, a number from 1 to 2 now"),
    ],
)
def test_a_spent_budget_of_another_search_is_refused_and_a_larger_one_goes_on(
    run: RunSweep, caplog: pytest.LogCaptureFixture, changed: list[str], difference: str
) -> None:
    run(LR, "hydra.sweeper.n_trials=2")
    for _ in range(2):  # the refusal itself changes nothing
        with pytest.raises(UserError, match=r"name=\.\.\. for a study of its own") as refused:
            run(*changed, "hydra.sweeper.n_trials=2")
        assert difference in str(refused.value)
        assert "hydra.sweeper.n_trials=4" in str(refused.value)
    assert len(run(*changed, "hydra.sweeper.n_trials=3").study.trials) == 3
    assert f"study 'vae' goes on with another search ({difference})" in caplog.text


@pytest.mark.slow
def test_a_second_sweep_file_of_the_same_name_does_not_pass_for_done(
    run: RunSweep, tmp_path: Path
) -> None:
    first = "name: cats\nmethod: random\nrun_cap: 2\nparameters: {lr: {min: 0.001, max: 0.01}}\n"
    (tmp_path / "first.yaml").write_text(first)
    second = first.replace("random", "bayes\nmetric: {name: val/psnr, goal: maximize}")
    (tmp_path / "second.yaml").write_text(second.replace("lr:", "beta:"))
    run("sweep=wandb", "sweep.file=first.yaml")
    with pytest.raises(UserError, match=r"`run_cap` of a W&B sweep file.*by RandomSampler before"):
        run("sweep=wandb", "sweep.file=second.yaml", "lr=1e-3")
    assert len(run("sweep=wandb", "sweep.file=second.yaml", "name=other").study.trials) == 2


@pytest.mark.slow
def test_a_sweep_file_of_constants_runs_once(run: RunSweep, tmp_path: Path) -> None:
    text = "method: grid\nparameters: {loss: {value: mse}, seed: {value: 3}}\n"
    (tmp_path / "one.yaml").write_text(text)
    assert seeds(run("sweep=wandb", "sweep.file=one.yaml")) == [3]


@pytest.mark.slow
def test_a_float_range_has_each_point_once_whoever_chose_it(
    run: RunSweep, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    tenths = "beta=range(0.1,1.0,0.1)"
    run(tenths, "hydra.sweeper.n_trials=8")  # by a sampler
    sweep = run(tenths)
    values = [trial["beta"] for trial in trained(sweep)]
    assert sorted(values) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert "9 of 9 done" in capsys.readouterr().out
    assert len(run(tenths, "hydra.sweeper.n_trials=9").study.trials) == 9


@pytest.mark.slow
def test_seeds_that_confirmed_the_best_can_be_searched_later(
    run: RunSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    run("lr=1e-3,3e-4", "seed=0,1", "sweep.confirm=1", "sweep.confirm_seeds=2")
    sweep = run("lr=1e-3,3e-4", "seed=0,1,2,3")
    assert "8 of 8 done" in capsys.readouterr().out
    table = sweep.table
    searched = {
        (row.params["lr"], row.user_attrs["seed"])
        for row in sweep.study.trials
        if row.user_attrs.get("phase") != "confirm"
    }
    assert searched == {(lr, seed) for lr in (1e-3, 3e-4) for seed in range(4)}
    assert len(table) == len(sweep.study.trials)
    trainings = [t for t in sweep.study.trials if SAME_AS not in t.user_attrs]
    assert len({(t.params["lr"], t.user_attrs["seed"]) for t in trainings}) == len(trainings) == 8
