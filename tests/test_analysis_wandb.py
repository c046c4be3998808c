"""Runs as W&B's API gives them become the same rows as their records."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from analysis.sources.found import Findings
from analysis.sources.wandb_runs import read
from experiments.errors import UserError
from experiments.record import KL_WEIGHT, at_full_weight
from tests.records import result, write_sweep


class Run:
    """As much of `wandb.apis.public.Run` as is read."""

    def __init__(self, run: dict[str, Any]) -> None:
        self.__dict__.update({key: value for key, value in run.items() if key != "history"})
        self._history = run["history"]

    def history(self, samples: int, pandas: bool) -> list[dict[str, Any]]:
        assert not pandas
        return list(self._history[:samples])


def findings_of(*runs: dict[str, Any]) -> Findings:
    return read([Run(one) for one in runs])


def run(run_id: str = "a1", state: Any = "finished", **summary: Any) -> dict[str, Any]:
    return {
        "id": run_id,
        "state": state,
        "group": "cats",
        "url": f"https://wandb.ai/team/vaesweep/runs/{run_id}",
        "config": {
            "name": "cats",
            "seed": 3,
            "objective": ["psnr", "ssim"],
            "lr": 1e-3,
            "loss": {"name": "mse", "scale": "sum"},
            "_wandb": {"version": "0.31.0"},
        },
        "summary": {"status": "completed", "final/val/psnr": 19.5, "_runtime": 61} | summary,
        "history": [
            {"epoch": 0, "trainer/global_step": 9, "train/loss": 2.0},
            {
                "epoch": 1,
                "trainer/global_step": 19,
                "val/psnr": 15.0,
                "samples": {"_type": "image"},
            },
            {"epoch": 1, "trainer/global_step": 19, "val/psnr": 15.5},
            {"epoch": 3, "trainer/global_step": 39, "val/psnr": 17.0},
        ],
    }


def test_a_run_becomes_a_row_and_its_validations_a_history() -> None:
    runs = load([Run(run())])
    row = runs.trials.iloc[0]
    expected = {
        "trial": "cats/a1",
        "source": "W&B runs",
        "sweep": "cats",
        "status": "completed",
        "seed": 3,
        "loss.name": "mse",
        "loss.scale": "sum",
        "val/psnr": 19.5,
        "epochs": 4,
        "seconds/total": 61.0,
        "wandb": "https://wandb.ai/team/vaesweep/runs/a1",
    }
    assert {key: row[key] for key in expected} == expected
    assert not [column for column in runs.trials if column.startswith("_")]
    assert runs.history[["epoch", "step", "val/psnr"]].to_numpy().tolist() == [
        [1, 20, 15.5],
        [3, 40, 17.0],
    ]
    assert runs.objectives == ("psnr", "ssim")


@pytest.mark.parametrize(
    ("state", "said", "status"),
    [
        ("finished", "completed", "completed"),
        ("finished", "pruned", "pruned"),
        ("crashed", None, "interrupted"),
        ("failed", "failed", "failed"),
        ("running", None, "running"),
    ],
)
def test_the_trials_own_word_on_how_it_ended_comes_before_that_of_wandb(
    state: str, said: str | None, status: str
) -> None:
    (trial,) = findings_of(run(state=state, status=said)).trials
    assert trial.row["status"] == status


def test_a_pruned_run_has_its_best_validation() -> None:
    pruned = run(status="pruned")
    pruned["summary"] |= {"val/psnr": {"max": 17.0}, "val/ssim": 0.4}
    del pruned["summary"]["final/val/psnr"]
    (trial,) = findings_of(pruned).trials
    assert (trial.row["val/psnr"], trial.row["val/ssim"]) == (17.0, 0.4)


def test_validations_while_the_kl_warmed_up_are_known_as_such() -> None:
    pruned = run(status="pruned")
    for row, weight in zip(pruned["history"], (0.1, 0.5, 0.5, 1.0), strict=True):
        row[KL_WEIGHT] = weight
    del pruned["summary"]["final/val/psnr"]
    pruned["summary"]["val/psnr"] = 17.0
    (trial,) = findings_of(pruned).trials
    assert [row["val/psnr"] for row in at_full_weight(trial.history)] == [17.0]
    assert trial.row["val/psnr"] == 17.0
    del pruned["history"][-1]
    (trial,) = findings_of(pruned).trials
    assert "val/psnr" not in trial.row, "it has not been trained at its beta"


def test_a_foreign_run_is_listed() -> None:
    findings = findings_of(run() | {"config": {"lr": 1}}, run("b2"))
    assert [trial.run for trial in findings.trials] == ["b2"]
    assert "no run of vaesweep" in findings.broken[0].reason


def test_a_record_and_its_run_are_one_row(tmp_path: Path) -> None:
    record = result(20.0, seed=3, loss__scale="sum", objective=["psnr", "ssim"])
    record["wandb"] = {"id": "a1", "url": "", "path": "team/vaesweep/a1"}
    sweep = write_sweep(tmp_path / "sweep", [record])
    trials = load([Run(run()), Run(run("b2"))], sweep).trials
    assert list(trials["trial"]) == ["cats/0", "cats/b2"]
    assert list(trials["val/psnr"]) == [20.0, 19.5], "the record's word counts"
    assert trials["wandb"][0].endswith("/a1"), "which only W&B knows, of a run synced later"


@pytest.mark.parametrize("source", ["wandb://team", "wandb://a/b/runs/c", 7])
def test_a_source_that_wandb_cannot_have_is_refused(source: Any) -> None:
    with pytest.raises(UserError, match="source must be"):
        load(source)


@pytest.mark.slow
def test_no_credentials_are_an_error_for_people(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="check the entity, the project and `wandb login`"):
        load("wandb://team/project")
    assert "wandb" not in os.listdir(tmp_path)
