"""What the protocol uses of Optuna beyond its public interface does what it takes for granted."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sweeps.storage import private

RATE = FloatDistribution(0.0, 1.0)


@pytest.fixture(params=["memory", "sqlite", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    storages = {
        "memory": lambda: optuna.storages.InMemoryStorage(),
        "sqlite": lambda: optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db"),
        "journal": lambda: optuna.storages.JournalStorage(
            JournalFileBackend(str(tmp_path / "study.log"))
        ),
    }
    return optuna.create_study(storage=storages[request.param]())


def test_a_trial_begins_running_with_its_attributes_and_parameters(study: optuna.Study) -> None:
    trial = private.begin(study, {"lease": {"worker": "a"}}, {"lr": 0.25}, {"lr": RATE})
    (stored,) = study.trials
    assert (stored.state, stored.user_attrs) == (TrialState.RUNNING, {"lease": {"worker": "a"}})
    assert stored.datetime_start is not None
    assert stored.params == {"lr": 0.25}
    assert private.suggest(trial, "lr", RATE) == 0.25


def test_attributes_are_read_without_a_copy_of_all(study: optuna.Study) -> None:
    trial = private.begin(study, {"cell": "a"})
    trial.set_user_attr("epochs", 3)
    assert dict(private.attributes(trial)) == {"cell": "a", "epochs": 3}
    study.set_user_attr("stop", True)
    assert private.is_set(study, "stop")
    assert not private.is_set(study, "over time")


def test_values_that_are_fixed_later_are_suggested(study: optuna.Study) -> None:
    trial = private.fix(study, private.begin(study, {}), {"lr": 0.75})
    assert private.suggest(trial, "lr", RATE) == 0.75
    again = private.adopt(study, study.trials[0])
    assert private.suggest(again, "lr", RATE) == 0.75


def test_of_two_who_take_what_waits_one_gets_it(study: optuna.Study) -> None:
    study.enqueue_trial({"lr": 0.5})
    (waiting,) = study.trials
    assert private.take(study, waiting) is not None
    assert private.take(study, waiting) is None
    private.requeue(study, study.trials[0])
    assert private.take(study, waiting) is not None


def test_who_lost_a_trial_can_write_nothing_about_it(study: optuna.Study) -> None:
    trial = private.begin(study, {})
    private.end(study, study.trials[0], TrialState.FAIL)
    refused = pytest.raises(optuna.exceptions.UpdateFinishedTrialError)
    with refused:
        trial.set_user_attr("lease", 1)
    with refused:
        trial.report(1.0, 1)
    with refused:
        private.end(study, trial, TrialState.COMPLETE, [1.0])
    with refused:
        private.requeue(study, trial)


def test_a_trial_that_others_let_wait_is_not_ended(study: optuna.Study) -> None:
    trial = private.begin(study, {})
    private.requeue(study, trial)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        private.end(study, trial, TrialState.COMPLETE, [1.0])
    assert study.trials[0].state == TrialState.WAITING


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_clone_is_one_as_optuna_makes_them(study: optuna.Study) -> None:
    trial = private.begin(study, {"cell": "a"})
    private.suggest(trial, "lr", RATE)
    trial.report(3.0, 1)
    for number in (0, 1):
        private.end(study, study.trials[number], TrialState.FAIL)
        private.clone(study, study.trials[number], {"cell": "a"})
        private.take(study, study.trials[number + 1])
    last = study.trials[2]
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(last) == 0
    assert RetryHeartbeatStaleTrialCallback.retry_history(last) == [0, 1]
    assert (private.first_of(last), private.history_of(last)) == (0, [0, 1])
    assert private.history_of(study.trials[1]) == [0], "its own history stays"
    assert (last.params, last.intermediate_values) == (study.trials[0].params, {1: 3.0})


def test_a_view_of_a_study_shows_some_trials_and_writes_to_all(study: optuna.Study) -> None:
    for _ in range(3):
        study.tell(study.ask(), 1.0)

    def odd(trials: object) -> list[FrozenTrial]:
        return [t for t in study.trials if t.number % 2]

    view = private.with_trials(study, odd)
    assert [t.number for t in view.get_trials(deepcopy=False)] == [1]
    view.set_user_attr("seen", True)
    assert study.user_attrs["seen"]
    assert len(study.trials) == 3
