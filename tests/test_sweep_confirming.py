"""The best of each level is trained again with fresh seeds; every worker sees the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps
from analysis.comparison import compare
from analysis.load import load
from sweeps.command import Sweep
from tests.planted import of_sweep
from tests.simulated import SimulatedTask

pytestmark = pytest.mark.slow

Race = Callable[..., Sweep]
# mse is 0.5 better than l1, which is 0.5 better than ssim; the value grows by 0.01 for each latent
# unit, and by the noise of the seed.
CLEAR = "loss=mse,l1,ssim"
CLOSE = "latent_dim=4,50,53"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Race:
    """A sweep of simulated trials whose best are confirmed."""
    monkeypatch.chdir(tmp_path)

    def run_sweep(*overrides: str, **task: Any) -> Sweep:
        given = any(o.startswith("hydra.sweeper.n_jobs") for o in overrides)
        jobs = [] if given else ["hydra.sweeper.n_jobs=0"]
        simulated = SimulatedTask(log=str(tmp_path / "log"), epochs=2, **{"noise": 0.02, **task})
        return sweeps.run(["sweep.confirm=2", *overrides, *jobs], task=simulated)

    return run_sweep


def seeds_of(sweep: Sweep, key: str = "latent_dim") -> dict[Any, list[int]]:
    """Fresh seeds that were trained to their end, by the value of a parameter."""
    again = [t for t in sweep.study.trials if t.user_attrs.get("phase") == "confirm"]
    found: dict[Any, list[int]] = {}
    for trial in again:
        if trial.state.name == "COMPLETE":
            found.setdefault(trial.params[key], []).append(trial.user_attrs["seed"])
    return {value: sorted(seeds) for value, seeds in found.items()}


def answer(sweep: Sweep) -> str:
    """What the sweep's last lines would say."""
    return "\n".join(compare(load(sweep)).verdict)


def test_the_best_of_each_level_gets_the_planned_seeds_and_one_is_named(run: Race) -> None:
    sweep = run(CLEAR, "latent_dim=4,8", "sweep.confirm=1")
    seeds = seeds_of(sweep, "loss")
    assert seeds.keys() == {"mse", "l1", "ssim"}
    assert seeds["mse"] == seeds["l1"] == seeds["ssim"] == [*range(1, len(seeds["mse"]) + 1)]
    assert 3 <= len(seeds["mse"]) <= 5
    confirmed = [t for t in sweep.study.trials if t.user_attrs.get("phase") == "confirm"]
    best = max(sweep.study.trials, key=lambda t: t.values[0] if t.params["loss"] == "ssim" else 0)
    of_ssim = {t.params["latent_dim"] for t in confirmed if t.params["loss"] == "ssim"}
    assert of_ssim == {best.params["latent_dim"]}
    race = sweep.study.user_attrs["race"]
    assert race["is_over"]
    assert [sweep.study.trials[n].params["loss"] for n in race["kept"]] == ["mse"]
    said = answer(sweep)
    assert said.startswith("use mse (latent ")
    assert "better than the next, l1, by 0." in said
    assert "surely worse: ssim" in said
    assert "would probably settle" not in said


def test_without_levels_the_best_few_are_confirmed(run: Race) -> None:
    sweep = run("latent_dim=4,50,100", "sweep.confirm_seeds=3")
    assert seeds_of(sweep) == {100: [1, 2, 3], 50: [1, 2, 3]}
    assert sweep.study.user_attrs["race"]["kept"] == [2]


def test_a_tie_gets_more_seeds_than_planned_and_goes_on_with_still_more(
    run: Race, tmp_path: Path
) -> None:
    apart = "sweep.margins={psnr:0.001}"
    sweep = run(CLOSE, apart, "sweep.confirm_seeds=3", "name=tie", "seed=0")
    assert seeds_of(sweep) == {50: [1, 2, 3, 4, 5], 53: [1, 2, 3, 4, 5]}
    race = sweep.study.user_attrs["race"]
    assert race["seeds"] == race["most_seeds"] == 5
    assert len(race["racing"]) == 2
    trained = (tmp_path / "log").read_text()
    run(CLOSE, apart, "sweep.confirm_seeds=3", "name=tie", "seed=0")
    assert (tmp_path / "log").read_text() == trained, "the same command has nothing left to do"
    more = run(CLOSE, apart, "sweep.confirm_seeds=8", "name=tie", "seed=0")
    assert seeds_of(more) == {50: [*range(1, 9)], 53: [*range(1, 9)]}
    assert more.study.user_attrs["design"]["planned"] == 3, "what was planned first stays"


def test_those_that_are_practically_equal_get_no_more_seeds(run: Race) -> None:
    sweep = run(CLOSE, "sweep.confirm_seeds=3", noise=0.001)
    assert seeds_of(sweep) == {50: [1, 2, 3], 53: [1, 2, 3]}
    assert "practically equal" in answer(sweep)


def test_confirm_most_is_what_an_open_decision_may_cost(run: Race) -> None:
    apart = "sweep.margins={psnr:0.001}"
    sweep = run(CLOSE, apart, "sweep.confirm_seeds=3", "sweep.confirm_most=3")
    assert seeds_of(sweep) == {50: [1, 2, 3], 53: [1, 2, 3]}


def test_fresh_seeds_are_none_that_the_search_has_used(run: Race) -> None:
    sweep = run(CLEAR, "seed=0,7", "sweep.confirm_seeds=3")
    assert seeds_of(sweep, "loss") == {loss: [8, 9, 10] for loss in ("mse", "l1", "ssim")}


def test_two_workers_confirm_by_the_same_rules_as_one(run: Race) -> None:
    alone = run("name=one", CLEAR, "sweep.confirm_seeds=3")
    both = run("name=two", CLEAR, "sweep.confirm_seeds=3", "hydra.sweeper.n_jobs=2", seconds=0.05)

    def told(sweep: Sweep) -> Any:
        losses = {t.number: t.params["loss"] for t in sweep.study.trials}
        return seeds_of(sweep, "loss"), [losses[n] for n in sweep.study.user_attrs["race"]["kept"]]

    # The identity, from which the simulated noise is drawn, holds the name.
    assert told(alone) == told(both)


def test_a_seed_that_fails_is_missing_and_said_to_be(run: Race) -> None:
    sweep = run(CLEAR, "sweep.confirm_seeds=4", fail=("seed=2",))
    assert seeds_of(sweep, "loss")["mse"][:3] == [1, 3, 4]
    notes = " ".join(compare(load(sweep)).notes)
    assert re.search(r"1 of \d seeds of mse failed", notes)


def test_a_level_that_fails_throughout_is_left_out_by_name(run: Race) -> None:
    sweep = run(
        CLEAR,
        "lr=1e-3,1e-4",
        "sweep.confirm_seeds=3",
        "sweep.max_failure_rate=1",
        fail=("loss=l1",),
    )
    comparison = compare(load(sweep))
    said = (
        "no training of l1 was completed: not compared; the first that failed: RuntimeError: asked "
        "to fail"
    )
    assert said in comparison.verdict
    assert comparison.verdict[0].startswith("use mse")


def test_a_sweep_that_stops_for_want_of_improvement_still_confirms(run: Race) -> None:
    sweep = run("latent_dim=64,32,16,8,4,2", "sweep.stop_after_no_improvement=2")
    search = [t for t in sweep.study.trials if "phase" not in t.user_attrs]
    assert len(search) == 3
    assert sorted(seeds_of(sweep)) == [32, 64]


def test_a_single_candidate_gets_the_planned_seeds(run: Race) -> None:
    sweep = run("latent_dim=4,50,100", "sweep.confirm=1", "sweep.confirm_seeds=4")
    assert seeds_of(sweep) == {100: [1, 2, 3, 4]}


def test_what_was_not_planned_before_anybody_looked_is_not_planned(run: Race) -> None:
    name = "name=later"
    first = run(CLEAR, "seed=0,1,2", name, "sweep.confirm=0")
    assert first.study.user_attrs["design"]["planned"] == 3
    more = run(CLEAR, "seed=0,1,2,3,4,5,6,7", name, "sweep.confirm=0")
    assert more.study.user_attrs["design"]["planned"] == 3


def test_the_first_confirmation_plans_its_own_seeds(run: Race) -> None:
    """Those of the grid were looked at, and say nothing of seeds that nobody has seen."""
    grid = [CLEAR, "lr=1e-3,1e-4", "seed=0,1,2", "name=fresh"]
    first = run(*grid, "sweep.confirm=0")
    assert first.study.user_attrs["design"]["planned"] == 3
    more = run(*grid, "sweep.confirm=1", "sweep.confirm_seeds=6")
    assert more.study.user_attrs["design"]["planned"] == 6
    again = run(*grid, "sweep.confirm=1", "sweep.confirm_seeds=8")
    assert again.study.user_attrs["design"]["planned"] == 6


@pytest.mark.parametrize("nothing", [[], ["sweep.compare=[]", "loss=mse,l1"]])
def test_a_search_that_compares_nothing_answers_with_a_configuration(
    run: Race, tmp_path: Path, nothing: list[str]
) -> None:
    """Drawn numbers are no levels, and the command that is printed is taken."""
    drawn = ["lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=8", "name=drawn", *nothing]
    said = compare(of_sweep(load(run(*drawn, "sweep.confirm=0")), tmp_path, drawn[2:], n_trials=8))
    assert said.settling is not None
    words = said.settling.command.split()
    assert words[-2:] == ["sweep.confirm=3", "sweep.confirm_seeds=3"]
    assert not any(word.startswith("sweep.compare=lr") for word in words)
    again = run(*drawn, *words[-2:])
    found = compare(load(again))
    assert len(found.levels) == len(seeds_of(again, "lr")) == 3
    assert found.verdict[0].startswith("use ")
    assert "lr 0.00" in found.verdict[0]
    assert any("of 8 configurations the 3 that were trained again" in note for note in found.notes)
    assert not any("not confirmed" in line for line in found.verdict)


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["sweep.compare=lr", "lr=interval(1e-4,1e-2)"], "has no list of values"),
        (["sweep.compare=[loss]", "lr=1e-3,1e-4"], "not searched"),
        (["sweep.compare=loss", CLEAR, "lr=interval(1e-4,1e-2)", "hydra.sweeper.n_trials=2"], "3"),
        (["sweep.compare=3", CLEAR], "keys that are searched"),
        (["sweep.margins={psnr:-1}", CLEAR], "sweep.margins"),
        (["sweep.confirm_seeds=4", "sweep.confirm_most=3", CLEAR], "sweep.confirm_most"),
    ],
)
def test_what_cannot_be_compared_is_refused(run: Race, overrides: list[str], rule: str) -> None:
    from experiments.errors import UserError

    with pytest.raises(UserError, match=rule):
        run(*overrides)


def test_every_objective_is_decided_and_what_is_open_in_one_gets_more_seeds(run: Race) -> None:
    """The second objective is half of the first, and its margin far below the noise of a tie."""
    several = ["objective=[psnr,ms_ssim]", "sweep.margins={psnr: 9, ms_ssim: 0.0001}"]
    sweep = run(CLOSE, *several, "sweep.confirm_seeds=3", objectives=2)
    assert seeds_of(sweep) == {50: [1, 2, 3, 4, 5], 53: [1, 2, 3, 4, 5]}


def test_seeds_between_two_looks_are_rounded_up(run: Race) -> None:
    apart = ["sweep.margins={psnr:0.001}", "sweep.confirm_seeds=3"]
    sweep = run(CLOSE, *apart, "sweep.confirm_most=4", noise=0.01)
    assert seeds_of(sweep) == {50: [1, 2, 3, 4, 5], 53: [1, 2, 3, 4, 5]}


def test_a_sweep_that_compared_other_levels_says_so(run: Race) -> None:
    from experiments.errors import UserError

    run("name=other", CLEAR, "latent_dim=4,8", "sweep.compare=latent_dim", "sweep.confirm=0")
    with pytest.raises(UserError, match=r"sweep\.compare=\[latent_dim\]"):
        run("name=other", CLEAR, "latent_dim=4,8", "sweep.confirm=1")
