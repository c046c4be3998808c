"""What a sweep compares: every level is searched as long and as well as the others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sweeps
from sweeps.command import Sweep
from tests.simulated import SimulatedTask

LOSSES = "loss=mse,l1,ssim"
TPE = "hydra/sweeper/sampler=tpe"
LR = "lr=tag(log,interval(1e-4,1e-2))"


def run(path: Path, *overrides: str, **task: Any) -> Sweep:
    given = any(o.startswith("hydra.sweeper.n_jobs") for o in overrides)
    jobs = [] if given else ["hydra.sweeper.n_jobs=0"]
    simulated = SimulatedTask(log=str(path / "log"), **{"epochs": 3, "noise": 0.1, **task})
    return sweeps.run([*overrides, *jobs], task=simulated)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(sweep: Sweep, key: str) -> dict[str, list[Any]]:
    """Values of a parameter in the order of the trials, by loss."""
    found: dict[str, list[Any]] = {}
    for trial in sweep.study.trials:
        if key in trial.params:
            found.setdefault(trial.params["loss"], []).append(trial.params[key])
    return found


def test_levels_begin_in_turn_and_have_as_many_trials(tmp_path: Path) -> None:
    sweep = run(tmp_path, LOSSES, LR, "hydra.sweeper.n_trials=14")
    losses = [trial.params["loss"] for trial in sweep.study.trials]
    rounds = [losses[start : start + 3] for start in range(0, 12, 3)]
    first = ["mse", "l1", "ssim"]
    assert rounds[0] == first
    assert rounds == [first[n % 3 :] + first[: n % 3] for n in range(4)], "14 trials are 4 each"
    assert len(losses) == 12


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsgaii"])
def test_what_is_drawn_at_random_is_the_same_for_every_level(tmp_path: Path, sampler: str) -> None:
    chosen = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=12"]
    proposals = params(run(tmp_path, LOSSES, LR, *chosen), "lr")
    assert proposals["mse"] == proposals["l1"] == proposals["ssim"]
    assert len(set(proposals["mse"])) == 4


@pytest.mark.parametrize("sampler", ["cmaes", "gp"])
def test_samplers_with_a_state_work_level_by_level(tmp_path: Path, sampler: str) -> None:
    more = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=24", "beta=interval(1,2)"]
    sweep = run(tmp_path, "loss=mse,l1", LR, *more)
    assert Counter(t.params["loss"] for t in sweep.study.trials) == {"mse": 12, "l1": 12}
    assert {t.state.name for t in sweep.study.trials} == {"COMPLETE"}


def test_two_workers_draw_what_one_draws(tmp_path: Path) -> None:
    seeded = [TPE, "hydra.sweeper.sampler.seed=3", "hydra.sweeper.n_trials=12", LOSSES, LR]
    alone = params(run(tmp_path, "name=one", *seeded), "lr")
    both = params(run(tmp_path, "name=two", "hydra.sweeper.n_jobs=2", *seeded, seconds=0.02), "lr")
    assert {loss: sorted(values) for loss, values in alone.items()} == {
        loss: sorted(values) for loss, values in both.items()
    }


def test_a_sampler_learns_from_its_own_level_alone(tmp_path: Path) -> None:
    """The others' trials, of which one is far better elsewhere, do not move it."""
    seeded = [TPE, "hydra.sweeper.sampler.seed=3", LR, "sweep.compare=loss"]
    together = params(run(tmp_path, LOSSES, "hydra.sweeper.n_trials=60", *seeded, noise=0.0), "lr")
    other = params(
        run(tmp_path, "name=two", "loss=mse,charbonnier", "hydra.sweeper.n_trials=40", *seeded,
            noise=0.0), "lr"
    )  # fmt: skip
    assert together["mse"] == other["mse"]


def test_a_level_with_few_points_has_each_of_them_once(tmp_path: Path) -> None:
    few = ["latent_dim=4,8,16", "loss.window_size=7,11", "hydra.sweeper.n_trials=8"]
    conditions = "hydra.sweeper.conditions={loss.window_size: loss=ssim}"
    sampled = "hydra/sweeper/sampler=random"
    sweep = run(tmp_path, "loss=mse,ssim", *few, conditions, sampled)
    points = [tuple(sorted(t.params.items())) for t in sweep.study.trials]
    assert len(set(points)) == len(points)
    assert Counter(t.params["loss"] for t in sweep.study.trials) == {"mse": 3, "ssim": 4}


@pytest.mark.parametrize("objectives", [["psnr"], ["psnr", "ssim"]])
def test_each_level_has_rungs_of_its_own(tmp_path: Path, objectives: list[str]) -> None:
    """The worse loss, whose every trial is below all of the better, is not pruned for that."""
    worst_first = "lr=tag(log,interval(2e-3,1e-1))"  # the config's is the best, and not in it
    space = ["loss=mse,ssim", worst_first, TPE, "hydra.sweeper.sampler.seed=0"]
    space += ["hydra.sweeper.n_trials=24"]
    kind = "asha" if len(objectives) == 1 else "halving"
    pruned = [f"hydra/sweeper/pruner={kind}", "max_epochs=9", f"objective=[{','.join(objectives)}]"]

    def completed(*overrides: str) -> Counter[str]:
        sweep = run(tmp_path, *space, *pruned, *overrides, epochs=9, noise=0.01,
                    objectives=len(objectives))  # fmt: skip
        states = [(t.params["loss"], t.state.name) for t in sweep.study.trials]
        assert ("ssim", "PRUNED") in states
        return Counter(loss for loss, state in states if state == "COMPLETE")

    assert completed("name=levels")["ssim"] > completed("name=all", "sweep.compare=[]")["ssim"]


def test_a_sweep_that_is_continued_keeps_its_levels_equal(tmp_path: Path) -> None:
    run(tmp_path, LOSSES, LR, "hydra.sweeper.n_trials=6")
    sweep = run(tmp_path, LOSSES, LR, "hydra.sweeper.n_trials=15")
    assert Counter(t.params["loss"] for t in sweep.study.trials) == dict.fromkeys(
        ("mse", "l1", "ssim"), 5
    )


def test_too_few_trials_for_all_levels_are_one_search(tmp_path: Path) -> None:
    sweep = run(tmp_path, LOSSES, LR, "hydra.sweeper.n_trials=2")
    assert len(sweep.study.trials) == 2


def test_the_design_lies_beside_the_records(tmp_path: Path) -> None:
    import json

    sweep = run(tmp_path, LOSSES, "seed=0,1,2", "sweep.margins={psnr: 0.2}")
    kept = json.loads((sweep.directory / "comparison.json").read_text())
    assert kept == sweep.study.user_attrs["design"]
    kept.pop("use", None)  # that is added where run.py says what is done at the end
    assert kept == {
        "schema": 1,
        "compare": ["loss"],
        "levels": ["loss"],
        "planned": 3,
        "margins": {"psnr": 0.2},
        "trials": 9,
    }


def test_what_is_compared_stays_unless_a_later_command_names_something_else(
    tmp_path: Path,
) -> None:
    run(tmp_path, LOSSES, "seed=0,1,2", "sweep.margins={psnr: 0.2}")
    more = run(tmp_path, "loss=choice(mse)", "latent_dim=4,8", "seed=0,1,2", "sweep.margins=null")
    kept = more.study.user_attrs["design"]
    assert (kept["compare"], kept["margins"]) == (["loss"], {"psnr": 0.2})
    other = run(tmp_path, LOSSES, "latent_dim=4,8", "seed=0", "sweep.compare=latent_dim")
    assert other.study.user_attrs["design"]["compare"] == ["latent_dim"]
