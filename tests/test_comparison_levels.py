"""Which trials stand for a level: those that all levels share, and none that chose themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import decisions
from analysis.comparison import Comparison, compare
from analysis.comparison.alike import groups_of
from analysis.runs import Design
from tests.planted import Planted, runs

PLANNED = Design(("loss.name",), 3)
RATES = (1e-4, 3e-4, 1e-3, 2e-3)


def grid(
    rates: Sequence[float] = RATES, windows: Sequence[int] = (7, 11), draw: int = 0
) -> list[Planted]:
    """Losses of equal truth, best at the highest rate; ssim has windows of its own."""
    random = np.random.default_rng(draw)
    return [
        Planted(
            loss, seed, np.log10(lr) + 0.1 * random.normal(),
            more={"lr": lr} | ({"loss.window_size": window} if window else {}),
        )
        for loss, of_loss in (("mse", (0,)), ("ssim", windows))
        for lr in rates
        for window in of_loss
        for seed in range(3)
    ]  # fmt: skip


def compared(trials: Sequence[Planted], *searched: str, **changes: Any) -> Comparison:
    return compare(runs(trials, searched=("loss.name", *searched), **changes))


def test_of_more_configurations_counts_the_expected_best_of_as_many_tries() -> None:
    trials = grid()
    found = compared(trials, "lr", "loss.window_size")
    mse, ssim = found.levels
    assert (mse.trials.shape, ssim.trials.shape) == ((4, 3), (8, 3))
    of_ssim = np.array([t.quality for t in trials if t.loss == "ssim"]).reshape(8, 3) + 20
    expected = decisions.judged_by_other_seeds(of_ssim, 4)
    assert found.results["psnr"].gains[1] == pytest.approx(expected)
    assert "the best of 4 configurations is expected to reach" in found.notes[0]
    assert mse.parameters["lr"] == ssim.parameters["lr"] == 2e-3


@pytest.mark.slow
def test_more_windows_make_no_winner() -> None:
    """Of 60 grids of equal truth 3 may have one; by «the first n tried» mse was it in all."""
    sure = [compared(grid(draw=draw), "lr", "loss.window_size") for draw in range(60)]
    assert sum("best" in one.results["psnr"].findings().values() for one in sure) <= 6


def test_grid_points_that_others_lack_do_not_count() -> None:
    trials = [t for t in grid(windows=(7,)) if t.loss == "mse" or (t.more or {})["lr"] < 2e-3]
    found = compared(trials, "lr")
    assert [level.trials.shape for level in found.levels] == [(3, 3), (3, 3)]
    assert all(level.parameters["lr"] == 1e-3 for level in found.levels)
    assert found.notes[0] == (
        "compared over the 3 grid points (lr) that all levels have; 1 of mse that others lack is "
        "left out"
    )


def test_levels_without_a_common_grid_point_are_compared_all_the_same() -> None:
    trials = [
        Planted(loss, seed, quality + 0.01 * seed, more={"lr": lr})
        for loss, quality, lr in (("mse", 1.0, 1e-3), ("ssim", 0.0, 3e-4))
        for seed in range(3)
    ]
    found = compared(trials, "lr")
    assert found.results["psnr"].seeds == [3, 3]
    assert "no value of lr was trained with several seeds by all" in found.notes[0]


def test_where_a_sweep_confirmed_fresh_seeds_alone_count() -> None:
    random = np.random.default_rng(0)
    search = [
        Planted(loss, 0, 9 + random.normal(), more={"lr": float(random.uniform())})
        for loss in ("mse", "ssim", "l1")
        for _ in range(5)
    ]
    fresh = [
        Planted(loss, seed, quality + 0.02 * seed**2, "confirm", more={"lr": 0.5})
        for loss, quality in (("mse", 1.0), ("ssim", 0.2))
        for seed in (11, 12, 13)
    ]
    few = [Planted("mse", 11, 30.0, "confirm", more={"lr": 0.7})]
    found = compared([*search, *fresh, *few], "lr")
    assert [level.name for level in found.levels] == ["mse", "ssim"]
    assert all(level.confirmed for level in found.levels)
    assert found.levels[0].parameters["lr"] == 0.5, "the one with most fresh seeds"
    assert found.results["psnr"].seeds == [3, 3]
    assert "not confirmed: l1, and so not compared" in found.verdict


def test_a_search_that_went_on_is_judged_by_what_it_chooses_now() -> None:
    """As in the sweep itself, which gives its fresh seeds to that one."""
    search = [
        Planted(loss, 0, quality, more={"lr": lr})
        for loss, lr, quality in (("mse", 0.5, 3.0), ("ssim", 0.5, 1.0), ("ssim", 0.7, 2.0))
    ]
    fresh = [
        Planted(loss, seed, 0.02 * seed**2, "confirm", more={"lr": lr})
        for loss, lr, count in (("mse", 0.5, 8), ("ssim", 0.5, 8), ("ssim", 0.7, 3))
        for seed in range(11, 11 + count)
    ]
    found = compared([*search, *fresh], "lr")
    assert found.levels[1].parameters["lr"] == 0.7
    assert found.results["psnr"].seeds == [8, 3]


def test_a_search_without_confirmation_gives_a_leader_and_no_decision() -> None:
    random = np.random.default_rng(0)
    trials = [
        Planted(loss, 0, random.normal(), more={"lr": float(random.uniform())})
        for loss in ("mse", "ssim")
        for _ in range(8)
    ]
    found = compared(trials, "lr")
    best = max(trials, key=lambda t: t.quality)
    assert found.verdict[0].startswith(f"{best.loss} (lr 0.")
    assert "with one seed that may be luck" in found.verdict[0]
    assert "more runs would show whether it is luck" in found.verdict[-1]
    rates = next(w for w in found.verdict[-1].split() if w.startswith("lr=")).count(",") + 1
    assert rates == 2, "of the best of each, not of all that were tried"


@pytest.mark.parametrize(("status", "said"), [("failed", "failed"), ("pruned", "was pruned")])
def test_trainings_without_a_score_are_missing_seeds_and_named(status: str, said: str) -> None:
    trials = [Planted(loss, seed, 0.01 * seed) for loss in ("mse", "ssim") for seed in range(5)]
    trials[7] = Planted("ssim", 2, status=status)
    found = compared(trials)
    assert found.results["psnr"].seeds == [5, 4]
    assert f"1 of 5 seeds of ssim {said}" in found.notes


def test_a_training_that_ended_without_a_number_has_failed() -> None:
    trials = [Planted(loss, seed, 0.01 * seed) for loss in ("mse", "ssim") for seed in range(3)]
    known = runs(trials)
    known.trials.loc[4, "val/psnr"] = np.inf
    assert "1 of 3 seeds of ssim failed" in compare(known).notes


def test_a_level_that_failed_throughout_is_named_and_the_others_are_compared() -> None:
    trials = [Planted(loss, seed, 0.01 * seed) for loss in ("mse", "l1") for seed in range(3)]
    dead = [Planted("ssim", seed, status="failed") for seed in range(3)]
    found = compared([*dead, *trials])
    assert [level.name for level in found.levels] == ["mse", "l1"]
    assert "no training of ssim was completed: not compared" in found.verdict


def test_a_configuration_that_always_fails_is_a_try_and_hides_no_other() -> None:
    trials = [
        Planted(loss, seed, 0.1 * seed, "search",
                "failed" if loss == "ssim" and lr == 1e-2 else "completed", {"lr": lr})
        for loss in ("mse", "ssim") for lr in (1e-3, 1e-2) for seed in range(3)
    ]  # fmt: skip
    found = compared(trials, "lr")
    assert found.results["psnr"].seeds == [3, 3]
    assert found.levels[1].parameters["lr"] == 1e-3
    assert "3 of 6 trainings of ssim failed" in found.notes


def test_a_level_that_failed_wherever_others_were_trained_is_named() -> None:
    trials = [
        Planted(loss, seed, 0.1 * seed, "search",
                "failed" if loss == "ssim" and lr == 1e-3 else "completed", {"lr": lr})
        for loss in ("mse", "l1", "ssim") for seed in range(3)
        for lr in ((1e-3, 1e-2) if loss == "ssim" else (1e-3,))
    ]  # fmt: skip
    found = compared(trials, "lr")
    assert [level.name for level in found.levels] == ["mse", "l1"]
    missing = "no training of ssim at a grid point that all levels have was"
    assert any(sentence.startswith(missing) for sentence in found.verdict)


def test_the_same_training_again_is_no_further_evidence() -> None:
    trials = [Planted(loss, seed, 0.01 * seed) for loss in ("mse", "l1") for seed in range(3)]
    again = [Planted("mse", 2, status="failed"), *trials, Planted("l1", 1, 7.0)]
    found = compared(again)
    assert found.results["psnr"].seeds == [3, 3]
    assert found.results["psnr"].means[1] < 21
    said = "1 training of l1 has the settings and the seed of an earlier one, but other scores"
    assert found.notes[0].startswith(said)
    assert compared([*trials, trials[0]]).notes == []


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("data.size", (32, 64), "on other images: compared are those with data.size=32"),
        ("data.fingerprint", ("a", "b"), "on other images"),
        ("data.split_seed", (0, 1), "on another split of the images: compared are those with"),
        ("max_epochs", (10, 20), "trained on another budget: compared are those with max_epochs"),
    ],
)
def test_what_cannot_be_compared_is_left_out_and_named(
    column: str, values: tuple[Any, Any], said: str
) -> None:
    trials = [
        Planted(loss, seed, 0.01 * seed, more={column: values[0]})
        for loss in ("mse", "l1") for seed in range(3)
    ] + [Planted("ssim", seed, 9.0, more={column: values[1]}) for seed in range(9)]  # fmt: skip
    found = compared(trials)
    assert [level.name for level in found.levels] == ["mse", "l1"], "of more levels, not trials"
    assert found.notes[0].startswith("9 trials of ssim are left out, ")
    assert said in found.notes[0]


def test_a_budget_that_was_searched_is_a_parameter() -> None:
    trials = [
        Planted(loss, seed, epochs / 10 + 0.01 * seed, more={"max_epochs": epochs})
        for loss in ("mse", "l1") for epochs in (10, 20) for seed in range(3)
    ]  # fmt: skip
    found = compared(trials, "max_epochs")
    assert all(level.parameters["max_epochs"] == 20 for level in found.levels)


def test_the_scale_of_an_older_version_is_a_level_of_its_own_and_named() -> None:
    trials = [
        Planted("mse", seed, 0.01 * seed, more={"loss.degree": degree})
        for degree in ("2", "auto") for seed in range(3)
    ]  # fmt: skip
    found = compared(trials)
    assert [level.name for level in found.levels] == ["degree 2", "degree auto"]
    assert "mse was trained with several values of loss.degree" in found.notes[0]


@pytest.mark.parametrize(
    ("compare_keys", "searched", "by"),
    [
        (("loss.name",), ("loss.scale",), ("loss.name",)),
        (("loss.name",), (), ("loss.name", "loss.scale")),
        (("lr",), (), ("lr",)),
        (("gone",), (), ("loss.name", "loss.scale")),
    ],
)
def test_what_a_sweep_says_that_it_compares_is_compared(
    compare_keys: tuple[str, ...], searched: tuple[str, ...], by: tuple[str, ...]
) -> None:
    trials = [
        Planted(loss, 0, 1.0, more={"loss.scale": scale, "lr": 1e-3})
        for loss in ("mse", "l1") for scale in ("sum", "optimal_sigma")
    ]  # fmt: skip
    designs = {"cats": Design(compare_keys, 3)}
    assert groups_of(runs(trials, searched=("loss.name", *searched), designs=designs)) == by


@pytest.mark.slow
def test_test_images_do_not_forget_that_the_same_trainings_were_chosen() -> None:
    """What is lucky on the validation images is on the test images as well."""
    named = 0
    for draw in range(40):
        random = np.random.default_rng(draw)
        trials = [
            Planted(loss, seed, 0.1 * random.normal(), more={"lr": lr})
            for loss in ("mse", "ssim")
            for lr in (1e-4, 2e-4, 4e-4, 8e-4)
            for seed in range(8)
        ]
        known = runs(trials, searched=("loss.name", "lr"))
        noise = 0.02 * random.normal(size=len(trials))
        known.trials["test/psnr"] = known.trials["val/psnr"] + noise
        decision = compare(known).checks["psnr"].decision
        assert decision is not None
        named += decision.is_best
    assert named <= 2, named


@pytest.mark.parametrize("ended", range(18, 25))
def test_a_grid_that_goes_on_is_compared_at_what_has_ended(ended: int) -> None:
    """A configuration that has the luckiest seed alone is not chosen, and nothing has failed."""
    random = np.random.default_rng(0)
    luck = np.array([3.0, 0.0, 0.1, -0.1, 0.2, -0.2])
    trials = [
        Planted(loss, seed, lead + luck[seed] + 0.01 * random.normal(), more={"lr": lr})
        for loss, lead in (("mse", 0.0), ("ssim", 0.5)) for lr in (1e-3, 2e-3) for seed in range(6)
    ]  # fmt: skip
    known = runs(trials[:ended], searched=("loss.name", "lr"), designs={"cats": PLANNED})
    found = compare(known)
    assert not any("failed" in line for line in (*found.verdict, *found.notes))
    assert found.results["psnr"].findings()["ssim"] == "best", found.verdict
    is_part = 18 < ended < 24
    assert any("all have the same seeds" in note for note in found.notes) == is_part


@pytest.mark.parametrize("scanned", [1, 3, 8])
@pytest.mark.parametrize("whose", [("mse", "l1", "ssim"), ("mse",)])
def test_a_scan_with_one_seed_does_not_hide_seeds_at_one_point(
    scanned: int, whose: tuple[str, ...]
) -> None:
    """Neither of all levels nor of one, whose many trials are not a grid of seeds."""
    random = np.random.default_rng(0)
    scan = [
        Planted(loss, 0, -0.2 * step, more={"lr": 1e-3 / (step + 2)})
        for loss in whose for step in range(scanned)
    ]  # fmt: skip
    grid = [
        Planted(loss, seed, lead + 0.1 * random.normal(), more={"lr": 1e-3})
        for loss, lead in (("mse", 0.6), ("l1", 0.0), ("ssim", -0.3)) for seed in range(5)
    ]  # fmt: skip
    for trials in ([*scan, *grid], [*grid, *scan]):
        found = compared(trials, "lr")
        assert found.results["psnr"].findings()["mse"] == "best", found.verdict
        assert found.results["psnr"].seeds == [5, 5, 5]


def test_a_study_of_what_was_confirmed_counts_beside_the_confirmations() -> None:
    """It is what the comparison itself proposes: the same configurations, seeds above all."""
    random = np.random.default_rng(0)
    lrs = {"mse": 1e-3, "l1": 3e-4}

    def of(sweep: str, seeds: Sequence[int], phase: str = "search", **more: float) -> pd.DataFrame:
        trials = [
            Planted(loss, seed, lead + 0.1 * random.normal(), phase, more={"lr": lr})
            for loss, lr in {**lrs, **more}.items()
            for seed in seeds
            for lead in [0.2 if loss == "mse" else 0.0]
        ]
        table = runs(trials).trials.assign(sweep=sweep)
        return table.assign(trial=[f"{sweep}-{phase}/{i}" for i in range(len(table))])

    parts = [of("cats", [0]), of("cats", [1, 2, 3], "confirm")]
    known = runs([], searched=("loss.name", "lr"))
    alone = compare(replace(known, trials=pd.concat(parts, ignore_index=True)))
    study = of("cats-2", range(4, 12))
    grid = of("other", [1, 2, 3], mse=5e-3)
    both = compare(replace(known, trials=pd.concat([*parts, study], ignore_index=True)))
    assert (alone.results["psnr"].seeds, both.results["psnr"].seeds) == ([3, 3], [11, 11])
    assert "16 trainings of other sweeps among them" in both.notes
    third = compare(replace(known, trials=pd.concat([*parts, grid], ignore_index=True)))
    assert third.levels[0].parameters["lr"] == 1e-3
    assert any("of other sweeps, not of what the search chose, do not" in n for n in third.notes)


def test_after_a_scan_each_is_compared_by_what_was_trained_again() -> None:
    """Though the best learning rates differ, and all were scanned."""
    best = {"mse": 1e-3, "l1": 2e-3}
    scan = [
        Planted(loss, 0, (loss == "mse") - abs(lr - best[loss]), more={"lr": lr})
        for loss in best for lr in (1e-3, 2e-3, 4e-3)
    ]  # fmt: skip
    again = [
        Planted(loss, seed, (loss == "mse") + 0.01 * (seed * lr * 1e3 % 5), more={"lr": lr})
        for loss, lr in best.items() for seed in range(1, 7)
    ]  # fmt: skip
    found = compared([*scan, *again], "lr")
    assert found.results["psnr"].findings()["mse"] == "best", found.verdict


def test_what_has_not_begun_has_not_failed() -> None:
    """A key that only some levels have: the last of its values has the first seed alone."""
    trials = [Planted(loss, seed, 0.1 * seed) for loss in ("mse", "l1") for seed in range(3)]
    trials += [
        Planted("ssim", seed, -1.0 + 0.1 * seed, more={"loss.window_size": window})
        for window, seeds in ((7, 3), (11, 1)) for seed in range(seeds)
    ]  # fmt: skip
    found = compared(trials, "loss.window_size")
    assert found.results["psnr"].seeds == [3, 3, 3]
    assert not any("failed" in line for line in (*found.verdict, *found.notes))


def test_a_level_without_the_objective_is_told_apart_from_a_failed_one() -> None:
    known = runs([Planted(loss, s, 0.1 * s) for loss in ("mse", "l1", "ssim") for s in range(3)])
    known.trials.loc[known.trials["loss.name"] == "ssim", "val/psnr"] = np.inf
    assert "ssim never reached a finite psnr: not compared" in compare(known).verdict


def test_a_level_that_has_just_begun_does_not_narrow_the_others() -> None:
    trials = [
        Planted(loss, seed, 0.1 * seed, more={"lr": lr})
        for loss in ("mse", "l1") for lr in (1e-3, 2e-3) for seed in range(3)
    ]  # fmt: skip
    found = compared([*trials, Planted("ssim", 0, 9.0, more={"lr": 1e-3})], "lr")
    assert [len(level.configurations) for level in found.levels] == [2, 2]
    assert "ssim has one seed so far: not compared" in found.verdict


def test_a_level_whose_confirmations_fail_is_named_as_such() -> None:
    trials = [Planted(loss, seed, 0.1 * seed) for loss in ("mse", "l1", "ssim") for seed in (0,)]
    trials += [Planted(loss, s, 0.1 * s, "confirm") for loss in ("mse", "l1") for s in (1, 2, 3)]
    trials += [Planted("ssim", s, 0.0, "confirm", status="failed") for s in (1, 2, 3)]
    found = compare(runs(trials))
    assert "no confirmation of ssim succeeded: not compared" in found.verdict
    assert not any("as well" in line or "not confirmed" in line for line in found.verdict)


def test_a_single_confirmation_beside_a_grid_with_seeds_compares_the_grid() -> None:
    trials = [Planted(loss, s, q) for loss, q in (("mse", 1.0), ("l1", 0.0)) for s in range(4)]
    more = [Planted("mse", seed, 1.0, "confirm") for seed in range(7, 10)]
    found = compare(runs([*trials, *more]))
    assert [level.name for level in found.levels] == ["mse", "l1"]
    assert not any("nothing to compare" in line for line in found.verdict)


def test_a_sweep_of_which_nothing_is_compared_plans_nothing() -> None:
    """Its seeds are no looks at these, however comparable its trials are."""
    confirmed = [
        Planted(loss, seed, 0.1 * seed, phase)
        for loss in ("mse", "l1")
        for phase, seeds in (("search", [0]), ("confirm", [1, 2, 3]))
        for seed in seeds
    ]
    known = runs(confirmed, designs={"cats": PLANNED, "other": Design(("loss.name",), 8)})
    other = runs([Planted("mse", 0), Planted("l1", 0)]).trials
    other = other.assign(sweep="other", trial=["other/0", "other/1"])
    both = replace(known, trials=pd.concat([known.trials, other], ignore_index=True))
    assert compare(both).planned == compare(known).planned == 3
    assert not any("planned" in note for note in compare(both).notes)


def test_seeds_of_several_sweeps_come_sweep_by_sweep() -> None:
    first = runs([Planted(loss, s, 0.1 * s) for loss in ("mse", "l1") for s in (0, 1, 2)]).trials
    later = runs([Planted(loss, s, 0.1 * s) for loss in ("mse", "l1") for s in (3, 4)]).trials
    later = later.assign(sweep="later", trial="later/" + later["number"].astype(str))
    table = pd.concat([first, later], ignore_index=True)
    found = compare(replace(runs([]), trials=table, searched=("loss.name",)))
    order = ["cats/0", "cats/1", "cats/2", "later/0", "later/1"]
    assert found.levels[0].trials.tolist() == [order]
