"""Studies are read from any storage, and agree with the records of the same trials."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from analysis.load import load
from experiments.errors import UserError
from sweeps.storage import attributes
from sweeps.storage.opening import open_storage
from tests.records import CONFIG, result, write_sweep

LOSSES = CategoricalDistribution(["mse", "ssim"])
DESCRIPTION = {
    "schema": 1,
    "objectives": ["psnr"],
    "space": {"loss": {"name": "CategoricalDistribution"}},
    "base": {key: value for key, value in CONFIG.items() if key != "name"},
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def make(storage: Any = None, name: str = "cats", **description: Any) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    study.set_user_attr(attributes.STUDY, DESCRIPTION | description)
    return study


def add(study: optuna.Study, state: TrialState, loss: str = "mse", **more: Any) -> None:
    """A trial with or without what a worker leaves in its user attributes."""
    finished = state == TrialState.COMPLETE
    study.add_trial(
        create_trial(
            state=state,
            params={"loss": loss},
            distributions={"loss": LOSSES},
            values=[19.0] if finished else None,
            user_attrs=more.pop("attrs", {}),
            **more,
        )
    )


def summary(**arguments: Any) -> dict[str, Any]:
    content = result(**arguments)
    return {attributes.SUMMARY: content, attributes.SEED: content["seed"]}


def test_a_study_alone_tells_what_its_trials_were_and_gave() -> None:
    study = make()
    add(study, TrialState.COMPLETE, attrs=summary(psnr=19.0), intermediate_values={2: 15.0, 4: 17})
    add(study, TrialState.FAIL, "ssim", attrs={attributes.REASON: "out of memory"})
    runs = load(study)
    first, second = runs.trials.iloc[0], runs.trials.iloc[1]
    assert first[["trial", "source", "phase"]].to_list() == ["cats/0", "study cats", "search"]
    assert (first["val/psnr"], first["seconds/fit"], first["lr"]) == (19.0, 10.0, 1e-3)
    assert second[["status", "reason", "loss.name"]].to_list() == [
        "failed", "out of memory", "ssim",
    ]  # fmt: skip
    assert second["beta"] == 1.0, "what all trials share is known although it left no record"
    assert runs.history[["trial", "epoch", "val/psnr"]].to_numpy().tolist() == [
        ["cats/0", 1, 15.0],
        ["cats/0", 3, 17.0],
    ]
    assert runs.searched == ("loss.name",)
    assert runs.objectives == ("psnr",)


def test_states_become_statuses() -> None:
    study = make()
    begun = {attributes.DIRECTORY: "/elsewhere/7"}
    for state, attrs in (
        (TrialState.COMPLETE, {}),
        (TrialState.PRUNED, {}),
        (TrialState.RUNNING, begun),
        (TrialState.WAITING, {}),
        (TrialState.WAITING, begun),
    ):
        reports = {1: 12.0, 2: 16.0, 3: 11.0} if state == TrialState.PRUNED else {}
        add(study, state, attrs=attrs, intermediate_values=reports)
    trials = load(study).trials
    assert list(trials["status"]) == ["completed", "pruned", "running", "waiting", "interrupted"]
    assert list(trials["val/psnr"].dropna()) == [19.0, 16.0], "of its best validation, if pruned"
    assert trials["directory"].isna().all(), "it is another machine's"


def test_a_trial_that_others_continue_or_repeat_is_one_row_under_its_first_number() -> None:
    study = make()
    add(study, TrialState.FAIL, attrs={attributes.RETRIED: True})
    add(study, TrialState.COMPLETE, "ssim", attrs=summary(loss__name="ssim"))
    again = {"failed_trial": 0, "retry_history": [0]}
    add(study, TrialState.COMPLETE, attrs=summary(), system_attrs=again)
    add(study, TrialState.COMPLETE, "ssim", attrs={attributes.SAME_AS: 1})
    confirm = {attributes.PHASE: attributes.CONFIRM, attributes.CONFIRMS: 1}
    add(study, TrialState.COMPLETE, "ssim", attrs=summary(loss__name="ssim", seed=1) | confirm)
    trials = load(study).trials
    assert list(trials["trial"]) == ["cats/0", "cats/1", "cats/4"]
    assert list(trials["phase"]) == ["search", "search", "confirm"]
    assert trials["configuration"][1] == trials["configuration"][2]


def test_a_record_and_the_study_of_its_sweep_are_one_row(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "sweep", [result(19.5), result(status="running"), result(status="running")]
    )
    study = make(f"sqlite:///{sweep / 'study.db'}")
    confirm = {attributes.PHASE: attributes.CONFIRM}
    add(study, TrialState.COMPLETE, attrs=summary(psnr=18.0) | confirm)
    add(study, TrialState.FAIL, attrs={attributes.REASON: "its worker died"})
    add(study, TrialState.RUNNING)
    add(study, TrialState.WAITING)
    for sources in ([sweep], [study, sweep], [sweep / "study.db", sweep]):
        trials = load(*sources).trials
        assert list(trials["number"]) == [0, 1, 2, 3]
        assert list(trials["status"]) == ["completed", "failed", "running", "waiting"]
        assert trials["val/psnr"][0] == 19.5, "the record's word counts"
        assert trials["phase"][0] == "confirm", "which only the study knows"
        assert trials["reason"][1] == "its worker died", "a killed process's record cannot say"


def test_sweeps_that_only_share_their_name_stay_apart(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "a/sweep", [result(lr=1e-3), result(lr=1e-4)])
    other = write_sweep(tmp_path / "b/sweep", [result(lr=1e-3), result(lr=1e-2)])
    copy = shutil.copytree(one, tmp_path / "c/sweep")
    trials = load(one, other, copy).trials
    assert list(trials["trial"]) == ["cats/0", "cats/1", "cats (2)/0", "cats (2)/1"]
    assert list(trials["lr"]) == [1e-3, 1e-4, 1e-3, 1e-2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal", "postgresql"])
def test_a_storage_is_named_by_its_address_and_study(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = {"sqlite": f"sqlite:///{tmp_path}/s.db", "journal": f"journal://{tmp_path}/s.log"}
    url = urls.get(kind) or request.getfixturevalue("database")
    storage = open_storage(url, tmp_path)
    add(make(storage), TrialState.COMPLETE, attrs=summary())
    assert list(load(url).trials["trial"]) == ["cats/0"], "there is one study"
    make(storage, "dogs")
    source = load(f"{url}#cats").trials["source"][0]
    assert source.endswith("#cats")
    assert "s3cret" not in source
    with pytest.raises(UserError, match=r"needs #STUDY.*#cats, #dogs"):
        load(url)
    with pytest.raises(UserError, match=r"one of those in .*cats.*but got 'mice'"):
        load(f"{url}#mice")


def test_a_study_that_nobody_may_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    add(make(f"sqlite:///{path}"), TrialState.COMPLETE, attrs=summary())
    before = path.read_bytes()
    path.chmod(0o444)
    assert len(load(f"sqlite:///{path}").trials) == len(load(path).trials) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "source",
    [
        "sqlite:///{}/missing.db",
        "journal://{}/missing.log",
        "sqlite:///{}/text.db",
        "postgresql://user:s3cret@127.0.0.1:1/database#cats",
        "oracle://x",
    ],
)
def test_a_storage_that_is_none_is_refused_and_not_made(tmp_path: Path, source: str) -> None:
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(UserError) as refusal:
        load(source.format(tmp_path))
    assert "s3cret" not in str(refusal.value)
    assert os.listdir(tmp_path) == ["text.db"]


def test_another_programs_study_is_refused_and_beside_records_passed_over(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [result()])
    url = f"sqlite:///{sweep / 'study.db'}"
    optuna.create_study(storage=url, study_name="theirs")
    with pytest.raises(UserError, match="must be that of a vaesweep sweep"):
        load(f"{url}#theirs")
    make(url, "future", schema=2)
    with pytest.raises(UserError, match="must have schema 1, but"):
        load(f"{url}#future")
    runs = load(sweep)
    assert list(runs.trials["trial"]) == ["cats/0"]
    assert "schema" in runs.broken[0].reason


def test_the_records_of_a_real_sweep_agree_with_its_study(tiny_sweep: Path) -> None:
    together, study = load(tiny_sweep), load(tiny_sweep / "study.db")
    columns = [
        "trial",
        "number",
        "phase",
        "status",
        "seed",
        "loss.name",
        "lr",
        "val/psnr",
        "epochs",
    ]
    assert study.trials[columns].equals(together.trials[columns])
    assert study.trials["configuration"].equals(together.trials["configuration"])
    assert study.searched == together.searched == ("loss.name", "lr")
    assert study.broken == together.broken == []
