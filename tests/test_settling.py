"""What is still open is said with the command that would settle it, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.comparison import compare
from analysis.runs import Design
from tests.planted import (
    Planted,
    findings,
    of_sweep,
    planned,
    runs,
    trained,
)


def psnr(trials: list[Planted], loss: str) -> np.ndarray[Any, Any]:
    return np.array([20 + trial.quality for trial in trials if trial.loss == loss])


def test_what_is_open_is_named_with_the_runs_that_would_settle_it() -> None:
    known = planned(trained(noise=0.3, mse=0.7, l1=0.0, ssim=-5.0))
    known.trials["seconds/total"] = 60.0
    found = compare(known)
    assert findings(found)["l1"] == "open"
    assert found.verdict[0].startswith("use mse for now: it leads with PSNR 20.")
    assert "open is whether mse is better than l1, behind by 0." in found.verdict[1]
    assert found.verdict[2].startswith("surely worse: ssim by 5.")
    assert "more runs (about " in found.verdict[3]
    assert "python run.py -m name=cats-2 loss=mse,l1 seed=3,4,5," in found.verdict[3], "not ssim"


def test_one_seed_is_no_evidence_and_the_command_adds_some() -> None:
    found = compare(runs(trained(seeds=1, mse=3.0, l1=0.0)))
    assert "mse leads: PSNR 23." in found.verdict[0]
    assert "with one seed that may be luck" in found.verdict[0]
    assert found.verdict[-1] == (
        "6 more runs would show whether it is luck (add what else was typed for them, which is not "
        "known from here): "
        "python run.py -m name=cats loss=mse,l1 seed=0,1,2"
    )
    assert found.estimates["low"].isna().all()


def test_too_close_to_call_is_said_and_costs_no_runs() -> None:
    noise = 0.4 * np.array([1, -1, 1, -1, 1, -1])
    trials = [
        Planted(loss, seed, sign * noise[seed] + lead)
        for loss, sign, lead in (("mse", 1, 0.09), ("l1", -1, 0.0)) for seed in range(6)
    ]  # fmt: skip
    found = compare(planned(trials))
    assert found.verdict[1].startswith("too close to call between mse and l1: even 62 seeds")
    assert not any("python" in line for line in found.verdict)
    assert found.settling is None
    third = [Planted("ssim", seed, -1.0 + noise[seed] * (-1) ** (seed // 2)) for seed in range(6)]
    found = compare(planned([*trials, *third]))
    assert findings(found) == {"mse": "leads", "l1": "open", "ssim": "open"}
    assert "open is whether mse is better than ssim, behind by 1." in found.verdict[1]
    assert "too close to call between mse and l1" in found.verdict[2]
    assert found.settling is not None


def test_the_command_asks_for_the_margins_that_a_reader_asked_for() -> None:
    found = compare(planned(trained(noise=0.3, mse=0.7, l1=0.0)), margins={"psnr": 0.05})
    assert found.settling is not None
    assert "'sweep.margins={psnr: 0.05}'" in found.settling.command


def test_runs_of_a_confirmation_are_counted_for_all_that_are_open(tmp_path: Path) -> None:
    """Seeds that are asked for go to who is too close to call as well."""
    noise = 0.4 * np.array([1, -1, 1, -1, 1, -1])
    close = [
        Planted(loss, seed, sign * noise[seed] + lead, "confirm")
        for loss, sign, lead in (("mse", 1, 0.09), ("l1", -1, 0.0)) for seed in range(6)
    ]  # fmt: skip
    behind = [Planted("ssim", s, 0.3 * noise[s // 2] - 0.38, "confirm") for s in range(6)]
    known = planned([*close, *behind], Design(("loss.name",), 6))
    known.trials["lr"] = known.trials["loss.name"].map({"mse": 1.0, "l1": 2.0, "ssim": 3.0})
    known = replace(known, searched=("loss.name", "lr"))  # so that no grid would do
    found = compare(of_sweep(known, tmp_path, ["loss=mse,l1,ssim"], n_trials=9))
    assert [*findings(found).values()] == ["leads", "open", "open"]
    assert "too close to call between mse and l1" in " ".join(found.verdict)
    assert found.settling is not None
    seeds = int(found.settling.command.rpartition("=")[2])
    assert found.settling.cost == f"about {3 * (seeds - 6)} more runs"


def test_what_learned_nothing_gets_no_more_of_it() -> None:
    known = planned(trained(noise=0.3, mse=0.7, l1=0.0))
    known.trials["val/mean_image_psnr"] = 40.0
    found = compare(known)
    assert found.verdict[0].startswith("no better than the mean image by PSNR: all of them")
    assert "train longer" in found.verdict[0]
    assert not any(line.startswith("use ") for line in found.verdict)
    assert found.settling is None


def test_seeds_that_will_fail_are_asked_for_as_well() -> None:
    def asked(share: int) -> int:
        trials = [
            replace(trial, status="failed") if share and trial.seed % 2 else trial
            for trial in trained(seeds=6, noise=0.2, mse=0.2, l1=0.0)
            if share or trial.seed % 2 == 0
        ]
        found = compare(planned(trials, Design(("loss.name",), 3)))
        assert found.settling is not None
        return int(found.settling.cost.split()[0])

    assert asked(share=1) >= 2 * asked(share=0)


def test_where_no_confirmation_succeeded_no_more_are_asked_for(tmp_path: Path) -> None:
    searched = [Planted(loss, 0, q, more={"lr": 1e-3}) for loss, q in (("mse", 1.0), ("l1", 0.0))]
    failed = [
        Planted(loss, seed, 0.0, "confirm", "failed", {"lr": 1e-3, "reason": "the disk\nburns"})
        for loss in ("mse", "l1") for seed in range(1, 6)
    ]  # fmt: skip
    known = planned([*searched, *failed], Design(("loss.name",), 5))
    found = compare(of_sweep(known, tmp_path, ["loss=mse,l1"], n_trials=2))
    assert "with one seed that may be luck" in found.verdict[0]
    assert found.verdict[1].startswith("no confirmation succeeded: what there is are single")
    assert found.verdict[1].endswith("the first that failed: the disk")
    assert found.settling is None


def test_a_level_that_always_fails_makes_no_command_dearer(tmp_path: Path) -> None:
    def asked(*more: Planted) -> str:
        trials = trained(noise=0.3, mse=0.7, l1=0.0, ssim=-5.0)
        found = compare(of_sweep(planned([*trials, *more]), tmp_path, ["loss=mse,l1,ssim"]))
        assert found.settling is not None
        return found.settling.cost

    assert asked(*(Planted("ms_ssim", seed, status="failed") for seed in range(3))) == asked()


def test_what_is_too_close_to_call_is_not_promised_to_be_settled() -> None:
    noise = 0.4 * np.array([1, -1, 1, -1, 1, -1])
    trials = [
        Planted(loss, seed, sign * noise[seed] + lead)
        for loss, sign, lead in (("mse", 1, 0.09), ("l1", -1, 0.0)) for seed in range(6)
    ]  # fmt: skip
    third = [Planted("ssim", seed, -1.0 + noise[seed] * (-1) ** (seed // 2)) for seed in range(6)]
    found = compare(planned([*trials, *third]))
    assert found.settling is not None
    assert "what is open, but not what is too close to call" in found.settling.purpose


def test_a_sweep_that_has_not_ended_is_finished_first(tmp_path: Path) -> None:
    """What it lacks is known; how many more seeds it would take is not."""
    trials = [Planted(loss, seed, 0.1 * seed) for loss in ("mse", "l1") for seed in range(2)]
    design = Design(("loss.name",), 3, trials=6)
    known = of_sweep(planned(trials, design), tmp_path, ["loss=mse,l1", "seed=0,1,2"])
    found = compare(known)
    assert "the sweep has not ended: 4 of 6 trainings are done" in found.verdict
    assert found.settling is not None
    assert found.settling.cost == "2 more runs"
    assert found.settling.purpose == "would finish the sweep"
    assert found.settling.command == "python run.py -m loss=mse,l1 seed=0,1,2"
    ended = replace(known, designs={"cats": replace(design, trials=4)})
    assert not any("has not ended" in line for line in compare(ended).verdict)


def test_several_sweeps_are_told_what_a_study_would_take() -> None:
    """No one command adds to them."""
    known = planned(trained(noise=0.3, mse=0.5, l1=0.0))
    known.trials["sweep"] = np.where(known.trials["seed"] < 2, "cats", "more")
    found = compare(known)
    assert found.settling is None
    assert any("takes a study of its own, under another name" in line for line in found.verdict)


@pytest.mark.parametrize("lost", [{("mse", 1), ("mse", 2)}, {("l1", 1), ("l1", 2), ("mse", 2)}])
def test_where_failures_leave_one_seed_fresh_ones_are_asked_for(
    tmp_path: Path, lost: set[tuple[str, int]]
) -> None:
    trials = [
        replace(trial, status="failed") if (trial.loss, trial.seed) in lost else trial
        for trial in trained(mse=1.0, l1=0.0)
    ]
    trials = [t for t in trials if t.loss == "mse"] if len(lost) == 2 else trials
    found = compare(of_sweep(planned(trials), tmp_path, ["loss=mse,l1", "seed=0,1,2"]))
    assert found.settling is None or not found.settling.cost.startswith("0 ")


def test_a_search_that_has_not_ended_is_finished_first(tmp_path: Path) -> None:
    trials = [
        Planted(loss, 0, 0.1 * k, more={"lr": 1e-3 * 1.1**k})
        for loss in ("mse", "l1")
        for k in range(5)
    ]
    known = planned(trials, Design(("loss.name",), 5, trials=98), searched=("loss.name", "lr"))
    found = compare(of_sweep(known, tmp_path, ["sweep=full"], n_trials=98))
    assert "the sweep has not ended: 10 of 98 trainings are done" in found.verdict
    assert found.settling is not None
    assert found.settling.command == "python run.py -m sweep=full"
    stopping = compare(of_sweep(known, tmp_path, ["sweep=full", "sweep.stop=3"], n_trials=98))
    assert not any("has not ended" in line for line in stopping.verdict)
