"""Trials that are pruned for now: real trainings that go on where they were paused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import sweeps
from experiments.record import LAST, read_config, read_history, read_result
from experiments.trial import run_trial
from sweeps.command import Sweep
from sweeps.storage.attributes import budgeted, counted
from tests.alive import ALIVE
from tests.conftest import TINY
from tests.simulated import SimulatedTask

FAST = [
    "max_epochs=8",
    "trainer.precision=32-true",
    "trainer.threads=1",
    "trainer.validate_every=1",
    "report=none",
]
SEARCH = ["lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.sampler.seed=1"]
EARLY = ["hydra/sweeper/pruner=halving", "hydra.sweeper.pruner.min_resource=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def promoted(sweep: Sweep) -> list[int]:
    """Numbers of the trials that go on with another."""
    return [t.number for t in sweep.study.trials if "promoted" in t.user_attrs]


@pytest.mark.trains
@pytest.mark.parametrize("jobs", [0, 2])
def test_a_promoted_training_is_that_of_one_which_was_never_paused(jobs: int) -> None:
    """Bit for bit, whoever of the workers goes on with it."""
    budget = [f"hydra.sweeper.n_jobs={jobs}", "hydra.sweeper.n_trials=2"]
    sweep = sweeps.run([*TINY, *ALIVE, *FAST, *SEARCH, *EARLY, *budget])
    trials = budgeted(sweep.study.trials)
    assert len(trials) == 2
    gone_on = [t for t in trials if t.number in promoted(sweep)]
    assert gone_on
    for trial in gone_on:
        directory = Path(trial.user_attrs["directory"])
        assert read_result(directory)["resumed"]
        whole = run_trial(read_config(directory), Path("whole") / directory.name, in_sweep=True)
        rows = read_history(directory)
        assert read_history(whole.directory)[: len(rows)] == rows
        assert trial.state == TrialState.PRUNED or trial.value == whole.objective
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert not [*sweep.directory.rglob(LAST)], "what nobody goes on with any more is removed"


def run(*overrides: str, **task: Any) -> Sweep:
    simulated = SimulatedTask(log=str(Path("log").absolute()), epochs=8, checkpoints=True, **task)
    return sweeps.run([*SEARCH, *EARLY, *FAST, *overrides], task=simulated)


def test_a_search_trains_one_of_each_level_to_its_end_however_few_there_are(tmp_path: Path) -> None:
    sweep = run("loss=mse,l1,ssim", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=0")
    trials = budgeted(sweep.study.trials)
    assert sorted(t.params["loss"] for t in trials) == ["l1", "mse", "ssim"]
    assert {t.state for t in trials} == {TrialState.COMPLETE}


def test_no_epoch_is_trained_twice_and_the_best_are_trained_to_their_end() -> None:
    sweep = run("hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=2", seconds=0.01)
    trials = budgeted(sweep.study.trials)
    assert len(trials) == 12
    begun = [line.split()[1] for line in Path("log").read_text().splitlines()]
    assert begun.count("begin") == 12
    assert begun.count("resume") == len(promoted(sweep)) > 0
    best = max(trials, key=lambda t: t.intermediate_values[1])
    assert best.state == TrialState.COMPLETE
    assert set(best.intermediate_values) == set(range(1, 9))


def test_a_larger_budget_is_searched_on_beside_what_had_waited() -> None:
    run("hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=0")
    sweep = run("hydra.sweeper.n_trials=9", "hydra.sweeper.n_jobs=0")
    trials = budgeted(sweep.study.trials)
    assert len(trials) == 9
    assert max(trials, key=lambda t: t.intermediate_values[1]).state == TrialState.COMPLETE


def test_equal_trials_do_not_end_as_one_that_was_pruned_for_now_did() -> None:
    """Of two that differ in nothing that matters, one is trained and the other is its copy."""
    sweep = run("lr=choice(1e-3,1e-2)", "trainer.progress=true,false", "hydra.sweeper.n_jobs=0",
                "hydra.sweeper.n_trials=4")  # fmt: skip
    ends: dict[float, set[str]] = {}
    for trial in counted(sweep.study.trials):
        ends.setdefault(trial.params["lr"], set()).add(trial.state.name)
    assert "COMPLETE" in ends[1e-3]


def test_a_study_of_another_pruner_is_not_begun_anew() -> None:
    asha = ["hydra/sweeper/pruner=asha", "hydra.sweeper.pruner.min_resource=1"]
    budget = ["hydra.sweeper.n_trials=9", "hydra.sweeper.n_jobs=0"]
    before = run(*asha, *budget).study.trials
    assert {t.state for t in before} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert run(*budget).study.trials == before


def test_the_first_trial_of_each_level_has_the_values_of_the_config() -> None:
    sweep = run("loss=mse,l1", "latent_dim=8,16", "lr=interval(1e-4,1e-2)", "beta=interval(2,3)",
                "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=0")  # fmt: skip
    for loss in ("mse", "l1"):
        first = next(t for t in sweep.study.trials if t.params["loss"] == loss)
        assert first.params["lr"] == 1e-3
        assert first.params["latent_dim"] in (8, 16), "32 is not searched"
        assert 2 <= first.params["beta"] <= 3, "nor is 1"
