"""The best configurations of a sweep race with fresh seeds; every worker sees the same race."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweeps
from sweeps.command import Sweep
from sweeps.search.confirming import outcome
from tests.simulated import SimulatedTask

pytestmark = pytest.mark.slow

Race = Callable[..., Sweep]
# The value grows by 0.01 for each latent unit, and by the noise of the seed.
CLEAR = "latent_dim=4,50,100"
CLOSE = "latent_dim=4,50,51"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Race:
    """A sweep of simulated trials whose best two race."""
    monkeypatch.chdir(tmp_path)

    def run_sweep(*overrides: str, **task: Any) -> Sweep:
        given = any(o.startswith("hydra.sweeper.n_jobs") for o in overrides)
        jobs = [] if given else ["hydra.sweeper.n_jobs=0"]
        simulated = SimulatedTask(log=str(tmp_path / "log"), epochs=2, **{"noise": 0.02, **task})
        return sweeps.run(["sweep.confirm=2", *overrides, *jobs], task=simulated)

    return run_sweep


def seeds_of(sweep: Sweep) -> dict[int, list[int]]:
    """Fresh seeds that were trained to their end, by latent size."""
    again = [t for t in sweep.study.trials if t.user_attrs.get("phase") == "confirm"]
    found: dict[int, list[int]] = {}
    for trial in again:
        if trial.state.name == "COMPLETE":
            found.setdefault(trial.params["latent_dim"], []).append(trial.user_attrs["seed"])
    return {latent_dim: sorted(seeds) for latent_dim, seeds in found.items()}


def test_a_clear_winner_needs_few_seeds_and_is_named(
    run: Race, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = run(CLEAR, "sweep.confirm_seeds=12")
    race = sweep.study.user_attrs["race"]
    assert race["kept"] == [2]
    assert race["candidates"] == [2, 1]
    seeds = race["seeds"]
    assert 2 <= seeds < 12
    assert seeds_of(sweep) == {100: [*range(1, seeds + 1)], 50: [*range(1, seeds + 1)]}
    printed = capsys.readouterr().out
    assert f"race: trial 2 wins after {seeds} fresh seeds\n" in printed
    assert "over seeds, the search's own left out" in printed
    table = [line.split() for line in printed.splitlines() if "latent_dim=" in line]
    assert [row[:2] for row in table if row[0].isdigit()] == [["1", "2"], ["2", "1"], ["3", "0"]]


def test_a_tie_is_undecided_and_more_seeds_go_on_with_it(
    run: Race, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep = run(CLOSE, "sweep.confirm_seeds=3")
    assert seeds_of(sweep) == {50: [1, 2, 3], 51: [1, 2, 3]}
    said = capsys.readouterr().out
    kept = sweep.study.user_attrs["race"]["kept"]
    between = f"undecided between trials {kept[0]} and {kept[1]} after 3 fresh seeds"
    assert f"race: {between}; more: sweep.confirm_seeds=5\n" in said
    trained = (tmp_path / "log").read_text()
    again = len(run(CLOSE, "sweep.confirm_seeds=3").study.trials)
    assert (tmp_path / "log").read_text() == trained, "the same command has nothing left to do"
    more = run(CLOSE, "sweep.confirm_seeds=5")
    assert seeds_of(more) == {50: [1, 2, 3, 4, 5], 51: [1, 2, 3, 4, 5]}
    assert len(more.study.trials) == again + 4


def test_fresh_seeds_are_none_that_the_search_has_used(run: Race) -> None:
    sweep = run(CLEAR, "seed=0,7", "sweep.confirm_seeds=2")
    assert seeds_of(sweep) == {100: [8, 9], 50: [8, 9]}


def test_two_workers_race_by_the_same_rules_as_one(run: Race) -> None:
    alone = run("name=one", CLEAR, "sweep.confirm_seeds=12")
    both = run("name=two", CLEAR, "sweep.confirm_seeds=12", "hydra.sweeper.n_jobs=2", seconds=0.05)

    def told(sweep: Sweep) -> Any:
        numbers = {t.number: t.params["latent_dim"] for t in sweep.study.trials}
        race = sweep.study.user_attrs["race"]
        return seeds_of(sweep), [numbers[n] for n in race["kept"]], race["seeds"]

    # The identity, from which the simulated noise is drawn, holds the name.
    assert told(alone)[1] == told(both)[1] == [100]
    assert seeds_of(both)[50] == seeds_of(both)[100] == [*range(1, told(both)[2] + 1)]


def test_a_candidate_that_fails_with_a_fresh_seed_leaves_the_race(run: Race) -> None:
    sweep = run(CLEAR, fail=("seed=2",), noise=0.0)
    assert sweep.study.user_attrs["race"]["kept"] == []
    names = {t.user_attrs["seed"] for t in sweep.study.trials if t.state.name == "FAIL"}
    assert names == {2}


def test_a_sweep_that_stops_for_want_of_improvement_still_races(run: Race) -> None:
    sweep = run("latent_dim=64,32,16,8,4,2", "sweep.stop_after_no_improvement=2")
    search = [t for t in sweep.study.trials if "phase" not in t.user_attrs]
    assert len(search) == 3
    assert sorted(seeds_of(sweep)) == [32, 64]


def test_a_single_candidate_is_confirmed_by_two_seeds(
    run: Race, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = run(CLEAR, "sweep.confirm=1", "sweep.confirm_seeds=9")
    assert seeds_of(sweep) == {100: [1, 2]}
    assert "race: trial 2 is confirmed after 2 fresh seeds\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("race", "words"),
    [
        (([3], [], 4, True), "trial 3 wins after 4 fresh seeds"),
        (([3, 5], [3, 5], 2, False), "not over, trials 3 and 5 after 2 fresh seeds"),
        (
            ([3, 5], [3, 5], 5, True),
            "undecided between trials 3 and 5 after 5 fresh seeds; more: sweep.confirm_seeds=8",
        ),
        (
            ([3, 5], [], 4, True),
            "trials 3 and 5 are each better in another objective, after 4 fresh seeds",
        ),
        (
            ([3, 5, 9], [3, 9], 5, True),
            "undecided between trials 3 and 9, and trial 5 better in another objective after "
            "5 fresh seeds; more: sweep.confirm_seeds=8",
        ),
        (([], [], 1, True), "every candidate failed with a fresh seed"),
    ],
)
@pytest.mark.parametrize("key", ["candidates", "contenders"])  # now, and in older studies
def test_the_outcome_is_told_in_words(
    race: tuple[list[int], list[int], int, bool], words: str, key: str
) -> None:
    kept, racing, seeds, is_over = race
    described = {key: [3, 5, 9], "kept": kept, "racing": racing, "seeds": seeds}
    assert outcome({**described, "most_seeds": 5, "is_over": is_over}) == f"race: {words}"
