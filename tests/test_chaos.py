"""What chaos breaks is found, and a sweep under faults leaves what an undisturbed one does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from sweeps.faults import KINDS, RESTART, drawn
from sweeps.outcomes import Outcome, differences, outcomes
from sweeps.storage.attributes import DIRECTORY, POINT, REASON, RETRIED, STUDY_ID, TAKEN

ROOT = Path(__file__).parents[1]
GOOD = [
    Outcome(number, f"lr={number}", TrialState.COMPLETE, (20.0,), weights=f"{number}", history="h")
    for number in range(2)
]


@pytest.mark.parametrize(
    ("disturbed", "found"),
    [
        (GOOD, []),
        ([replace(GOOD[1], number=9), GOOD[0]], []),
        (GOOD[:1], ["lr=1: no trial has it"]),
        ([*GOOD, replace(GOOD[0], number=2)], ["lr=0: trained 2 times, by trial 0 and 2"]),
        ([*GOOD, replace(GOOD[0], point="lr=7")], ["lr=7: trial 0, which nobody asked for"]),
        ([GOOD[0], replace(GOOD[1], weights="0")],
         ["lr=1: trial 1 has other final weights than undisturbed"]),
        ([GOOD[0], replace(GOOD[1], history="")],
         ["lr=1: trial 1 has another history than undisturbed"]),
        ([GOOD[0], replace(GOOD[1], values=(1.0,))],
         ["lr=1: trial 1 has another result, (1.0,) than undisturbed"]),
        ([GOOD[0], Outcome(1, "lr=1", TrialState.RUNNING)], ["lr=1: trial 1 is still running"]),
        ([GOOD[0], Outcome(1, "lr=1", TrialState.WAITING)], ["lr=1: trial 1 is still waiting"]),
        ([GOOD[0], Outcome(1, "lr=1", TrialState.FAIL, reason="its worker died")],
         ["lr=1: trial 1 ended as fail: its worker died"]),
        ([GOOD[0], replace(GOOD[1], faults=("has no record",))], ["lr=1: trial 1 has no record"]),
    ],
    ids=["nothing", "another number", "missing", "doubled", "unasked", "weights", "history",
         "result", "running", "waiting", "failed", "record"],
)  # fmt: skip
def test_what_is_not_as_undisturbed_is_named(disturbed: list[Outcome], found: list[str]) -> None:
    assert differences(GOOD, disturbed) == found


def left(directory: Path, **result: Any) -> list[Outcome]:
    """The outcomes of a study with one completed trial, of which this is the record."""
    study = optuna.create_study()
    study.set_user_attr(STUDY_ID, "s")
    attributes = {POINT: "[{}, 0]", DIRECTORY: str(directory)}
    retry = {"retry_history": [0], "failed_trial": 0}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={RETRIED: TAKEN}))
    study.add_trial(create_trial(values=[20.0], user_attrs=attributes, system_attrs=retry))
    content = {
        "schema": 1,
        "status": "completed",
        "study": {"id": "s", "name": "vae", "trial": 0},
        "objective": {"names": ["psnr"], "values": [20.0]},
        **result,
    }
    (directory / "result.json").write_text(json.dumps(content))
    return outcomes(study)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        ({}, None),
        ({"status": "interrupted"}, "is complete, but its record is interrupted"),
        ({"study": {"id": "s", "name": "vae", "trial": 1}},
         "has the record of trial 1 of the study 'vae'"),
        ({"study": {"id": "another", "name": "vae", "trial": 0}},
         "has the record of trial 0 of the study 'vae'"),
        ({"objective": {"values": [19.0]}},
         "has (20.0,) in the study, but (19.0,) in its record"),
        ({"schema": 99}, "has no record in"),
    ],
    ids=["nothing", "status", "trial", "study", "values", "unreadable"],
)  # fmt: skip
def test_a_record_that_is_not_its_trials_is_found(
    tmp_path: Path, result: dict[str, Any], fault: str | None
) -> None:
    (outcome,) = left(tmp_path, **result)
    assert outcome.number == 1
    assert outcome.faults == () if fault is None else fault in outcome.faults[0]


def test_a_trial_that_was_trained_twice_is_found(tmp_path: Path) -> None:
    end = "2026-01-01 00:00:00,000 INFO experiments.trial: completed: 2 epochs\n"
    (tmp_path / "run.log").write_text(end)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 3}\n')
    assert left(tmp_path)[0].faults == ()
    (tmp_path / "run.log").write_text(2 * end)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 3}\n{"epoch": 3}\n')
    assert left(tmp_path)[0].faults == (
        "has a history of the epochs [1, 3, 3]",
        "was trained to its end 2 times",
    )


def test_trials_that_failed_or_have_not_ended_are_among_the_outcomes() -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={REASON: "no memory"}))
    study.enqueue_trial({})
    found = [(o.state, o.reason) for o in outcomes(study)]
    assert found == [(TrialState.FAIL, "no memory"), (TrialState.WAITING, "")]


def test_a_seed_gives_the_faults() -> None:
    faults = drawn(300, 1, restarts=True)
    assert faults == drawn(300, 1, restarts=True) != drawn(300, 2, restarts=True)
    kinds = [fault.kind for fault in faults]
    assert kinds.count(RESTART) == 2
    assert set(kinds) == {*KINDS, RESTART}
    assert RESTART not in {fault.kind for fault in drawn(300, 1)}


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweeps.chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "0"], "`--faults` must be 1 or more, but got 0"),
        (["--directory", "."], "`--directory` must be new, but . exists"),
        (["--storage", "redis://here"], "storage must be sqlite:///sweep.db"),
    ],
)
def test_a_mistake_is_told_before_anything_begins(arguments: list[str], message: str) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.trains
def test_a_real_sweep_under_a_few_faults_leaves_what_an_undisturbed_one_does(
    tmp_path: Path,
) -> None:
    # A worker is killed, one is stopped, the command is killed, and it is given twice.
    done = chaos("--faults", "4", "--seed", "212", "--epochs", "8", "--directory", f"{tmp_path}/c")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "4 faults: all trials as undisturbed" in done.stdout
