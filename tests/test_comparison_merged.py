"""Several sweeps in one comparison, and what is missing of some: nothing good is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import Comparison, compare
from analysis.comparison.alike import design_of, groups_of
from analysis.load import load
from analysis.runs import Design, Runs
from analysis.sources.found import Findings, Found
from analysis.sources.tables import runs_of
from tests.planted import Planted, findings, runs
from tests.records import result, write

FRESH = range(100, 105)
LEADS = {"mse": 0.6, "l1": 0.0}


def merged(**sweeps: Sequence[Planted]) -> Runs:
    """Sweeps of losses and learning rates, by name."""
    parts = []
    for name, trials in sweeps.items():
        table = runs(trials).trials.assign(sweep=name)
        parts.append(table.assign(trial=[f"{name}/{i}" for i in range(len(table))]))
    known = runs([], searched=("loss.name", "lr"))
    return replace(known, trials=pd.concat(parts, ignore_index=True))


def grid(
    lrs: Sequence[float], seeds: Sequence[int], leads: dict[str, float], phase: str = "search"
) -> list[Planted]:
    """Each loss at each learning rate, with some seeds."""
    random = np.random.default_rng([int(1e5 * sum(lrs)), *map(ord, "".join(leads))])
    return [
        Planted(loss, seed, lead + 0.05 * random.normal(), phase, more={"lr": lr})
        for loss, lead in leads.items() for lr in lrs for seed in seeds
    ]  # fmt: skip


def search(leads: dict[tuple[str, float], float]) -> list[Planted]:
    """One training of each loss and learning rate."""
    return [Planted(loss, 0, lead, more={"lr": lr}) for (loss, lr), lead in leads.items()]


def used(found: Comparison) -> float:
    """The learning rate of what is recommended."""
    level = next(one for one in found.levels if one.own == list(found.recommended))
    return float(level.parameters["lr"])


def test_one_failed_training_does_not_change_what_stands_for_a_level() -> None:
    trials = [
        Planted(loss, seed, lead + gain + 0.01 * seed, more={"lr": lr},
                status="failed" if (loss, lr, seed) == ("mse", 2e-3, 1) else "completed")
        for loss, lead in LEADS.items() for lr, gain in ((1e-3, 0.0), (2e-3, 1.0))
        for seed in range(5)
    ]  # fmt: skip
    found = compare(runs(trials, searched=("loss.name", "lr")))
    assert "use mse (lr 0.002)" in found.verdict[0]
    assert used(found) == 2e-3
    assert len(found.recommended) == 4


@pytest.mark.parametrize("first", [1e-4, 9e-2])  # sorts before, and after
def test_of_two_grids_with_other_seeds_the_one_that_says_more_counts(first: float) -> None:
    one = grid([first], range(4), {"mse": 0.0, "l1": 0.6})
    finer = grid([1e-3, 2e-3, 4e-3], range(4, 7), LEADS)
    for both in (merged(one=one, finer=finer), merged(finer=finer, one=one)):
        found = compare(both)
        assert findings(found)["mse"] == "best", found.verdict
        assert [len(level.configurations) for level in found.levels] == [3, 3]
        assert any("8 trainings of mse and l1 are left out" in note for note in found.notes)


def test_the_last_training_of_a_grid_that_is_missing_hides_no_better_point() -> None:
    trials = grid([1e-3, 2e-3], range(3), LEADS)
    found = compare(runs(trials[:-1], searched=("loss.name", "lr")))
    assert [len(level.configurations) for level in found.levels] == [2, 2]


def test_two_confirmed_searches_are_judged_by_all_fresh_seeds_that_they_share() -> None:
    """Not by the luckiest training of both, which nobody had confirmed to be good."""
    lucky = search({("mse", 3e-4): 3.0, ("l1", 3e-4): 0.4, ("mse", 1e-4): 0.1})
    good = search({("mse", 1e-3): 1.5, ("l1", 1e-3): 1.0, ("mse", 3e-3): 0.2})
    low = grid([3e-4], FRESH, {"mse": 0.5, "l1": 0.0}, "confirm")
    high = grid([1e-3], FRESH, {"mse": 1.5, "l1": 0.9}, "confirm")
    found = compare(merged(one=[*lucky, *low], two=[*good, *high]))
    assert findings(found)["mse"] == "best", found.verdict
    assert used(found) == 1e-3
    assert all(level.confirmed for level in found.levels)


def test_a_level_that_another_sweep_confirmed_counts() -> None:
    """With the seeds and settings that the sweep would have confirmed it by."""
    leads = {"mse": 1.0, "l1": 0.5, "ssim": 0.9}
    own = search({(loss, lr): lead - 100 * abs(lr - 1e-3)
                  for loss, lead in leads.items() for lr in (1e-3, 5e-3)})  # fmt: skip
    fresh = grid([1e-3], FRESH, {"mse": 1.0, "l1": 0.8}, "confirm")
    other = grid([1e-3], FRESH, {"ssim": 2.0})
    found = compare(merged(one=[*own, *fresh], two=other))
    assert findings(found)["ssim"] == "best", found.verdict
    assert found.results["psnr"].seeds == [5, 5, 5]
    assert not any("not confirmed" in line for line in found.verdict)


def test_one_confirmed_level_beside_another_trained_by_hand() -> None:
    own = search({("mse", 1e-3): 1.0, ("l1", 1e-3): 0.5, ("mse", 5e-3): 0.0, ("l1", 5e-3): 0.0})
    fresh = grid([1e-3], FRESH, {"mse": 1.0}, "confirm")
    found = compare(merged(one=[*own, *fresh], two=grid([1e-3], FRESH, {"l1": 2.0})))
    assert findings(found)["l1"] == "best", found.verdict
    assert found.results["psnr"].seeds == [5, 5]


def test_a_sweep_that_compares_nothing_does_not_silence_one_that_does() -> None:
    designs = {"a": Design(()), "b": Design(("lr",), 3)}
    known = runs([Planted(more={"lr": lr}) for lr in (1e-3, 2e-3)], designs=designs,
                 searched=("lr",))  # fmt: skip
    design = design_of(known)
    assert design is not None
    assert design.compare == ("lr",)
    assert groups_of(known) == ("lr",)


def test_a_null_that_was_chosen_is_a_value() -> None:
    """As `optimizer.ema_decay=null` is; but `loss.window_size` is nothing of a loss without one."""
    column = "optimizer.ema_decay"
    trials = [
        Planted(seed=seed, quality=0.1 * seed + (decay is None), more={column: decay})
        for decay in (None, 0.99, 0.999) for seed in range(3)
    ]  # fmt: skip
    known = runs(trials, searched=(column,), designs={"cats": Design((column,), 3)})
    found = compare(known)
    assert found.verdict[0].startswith("use no optimizer.ema_decay")
    assert found.levels[0].parameters[column] is None
    pair = compare(runs(trials[:6], searched=(column,)))
    assert [level.name for level in pair.levels] == [f"no {column}", f"{column} 0.99"]


def test_times_of_several_sweeps_are_not_compared() -> None:
    """They may be of several machines."""
    slow, quick = (
        [Planted(loss, s, lead + 0.001 * (s == at), more={"lr": 1e-3}) for s in range(3)]
        for loss, lead, at in (("mse", 0.01, 1), ("l1", 0.0, 2))
    )
    seconds = [100.0, 101.0, 102.0, 10.0, 11.0, 12.0]
    together, apart = (
        compare(replace(known, trials=known.trials.assign(**{"seconds/total": seconds})))
        for known in (merged(one=[*slow, *quick]), merged(one=slow, two=quick))
    )
    assert any("fastest" in line for line in together.verdict), together.verdict
    assert not any("fastest" in line for line in apart.verdict)


@pytest.mark.parametrize(
    ("others", "common"),
    [(("ssim", "psnr"), ("psnr", "ssim")), (("psnr",), ("psnr",)), (("kl",), ())],
)
def test_sweeps_are_compared_by_the_objectives_that_all_have(
    others: tuple[str, ...], common: tuple[str, ...]
) -> None:
    findings = Findings(
        [
            Found(sweep, sweep, 0, "cats", {"objective": objectives}, {"status": "completed"})
            for sweep, objectives in (("a", ("psnr", "ssim")), ("b", others))
        ]
    )
    assert runs_of(findings).objectives == common


@pytest.mark.parametrize("of_sweeps", [True, False])
def test_seeds_are_looked_at_as_they_were_trained_whichever_sweep_is_named_first(
    tmp_path: Path, of_sweeps: bool
) -> None:
    """Else there would be two answers, of which one could choose."""
    for sweep, day, seeds in (("b", 1, range(3)), ("a", 2, range(3, 6))):
        for number, seed in enumerate(seeds):
            content = result(20.0 + seed, seed=seed, name=sweep)
            content["started"] = f"2026-11-0{day}T00:00:00+00:00"
            write(tmp_path / sweep / "sweep" / str(number), content)
        if of_sweeps:
            (tmp_path / sweep / "sweep" / "multirun.yaml").write_text("{}")
    for names in ("ab", "ba"):
        trials = load(*(tmp_path / name / "sweep" for name in names)).trials
        assert trials["seed"].tolist() == list(range(6))
