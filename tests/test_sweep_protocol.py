"""Single promises of the protocol, without a world around them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState, create_trial

from experiments.errors import PassingError, UserError
from sweeps.results.ranking import last_improvement
from sweeps.search.pruning import CountedPruner, Reporting
from sweeps.space.dimensions import Dimension, Space
from sweeps.storage import private
from sweeps.storage.attributes import (
    CONFIRM,
    ENDED,
    LEASE,
    OVER_TIME,
    PHASE,
    REASON,
    RETRIED,
    STUDY,
    STUDY_ID,
    TAKEN,
)
from sweeps.study.counts import Counts
from sweeps.study.definition import open_study
from sweeps.study.execution import Worker, _JobError, _numbers
from sweeps.study.leases import Lease
from sweeps.study.recovery import retry_failed
from sweeps.study.stopping import Stopping, deadline_of
from sweeps.study.supervision import Pool
from sweeps.system import REAL, RealSystem


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize")


def test_a_failed_trial_and_its_retry_are_one_unit_of_the_budget(study: optuna.Study) -> None:
    for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL):
        values = [1.0] if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, values=values, user_attrs={REASON: "no memory"}))
    counts = Counts("here")
    counts.update(study.trials)
    assert counts.counted == 3
    assert retry_failed(study) == 2
    assert retry_failed(study) == 0, "each has its retry already"
    counts.update(study.trials)
    assert counts.counted == 3
    assert REASON not in study.trials[3].user_attrs


def test_a_trial_that_was_taken_over_without_a_clone_is_known(study: optuna.Study) -> None:
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={RETRIED: TAKEN}))
    counts = Counts("here")
    counts.update(study.trials)
    assert (counts.counted, counts.unretried) == (0, {0})


@pytest.mark.parametrize("broken", ["set_trial_intermediate_value", "get_all_trials"])
def test_a_report_that_breaks_off_is_made_again_with_its_decision(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    class Judge(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return len(study.get_trials(deepcopy=False)) == 1 and trial.last_step == 1

    study.pruner = Judge()
    trial, reporting = private.begin(study, {}), Reporting()
    call = getattr(study._storage, broken)
    for applied in (False, True):

        def fails(*arguments: Any, applied: bool = applied, **keywords: Any) -> Any:
            if applied:
                call(*arguments, **keywords)
            raise ConnectionError

        monkeypatch.setattr(study._storage, broken, fails)
        with pytest.raises(ConnectionError):
            reporting.report(trial, 1, [3.0])
    monkeypatch.setattr(study._storage, broken, call)
    assert reporting.report(trial, 1, [3.0])
    assert study.trials[0].intermediate_values == {1: 3.0}
    assert not reporting.report(trial, 1, [3.0]), "an epoch is judged once"


@pytest.mark.parametrize(
    "pruner",
    [
        SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        HyperbandPruner(min_resource=1, max_resource=4, reduction_factor=2),
    ],
)
def test_rungs_count_a_trial_and_its_retry_once_and_no_confirmation(
    study: optuna.Study, pruner: optuna.pruners.BasePruner
) -> None:
    def add(value: float, **attributes: Any) -> None:
        system = {"completed_rung_0": value, **attributes.pop("system", {})}
        trial = create_trial(
            state=TrialState.COMPLETE, values=[value], intermediate_values={1: value},
            user_attrs=attributes, system_attrs=system,
        )  # fmt: skip
        study.add_trial(trial)

    class Spy(optuna.pruners.BasePruner):
        seen: list[int] = []  # noqa: RUF012

        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            self.seen[:] = [t.number for t in study.get_trials(deepcopy=False)]
            return bool(pruner.prune(study, trial))

    add(1.0)
    study.add_trial(create_trial(state=TrialState.FAIL, system_attrs={"completed_rung_0": 9.0}))
    add(9.0, system={"retry_history": [1], "failed_trial": 1})
    add(9.0, **{PHASE: CONFIRM})
    study.pruner = CountedPruner(Spy())
    trial = private.begin(study, {})
    trial.report(8.0, 1)
    trial.should_prune()
    assert Spy.seen == [0, 2, 4]


def test_ends_are_ordered_by_their_places_and_not_by_local_times(study: optuna.Study) -> None:
    """A machine in another zone ended the best trial last, hours earlier by its clock."""
    for place, value in ((1, 1.0), (2, 0.5), (3, 9.0)):
        study.add_trial(create_trial(values=[value], user_attrs={ENDED: place}))
    early = study._storage.get_trial(study.trials[2]._trial_id)
    assert early.datetime_complete is not None
    early.datetime_complete = early.datetime_complete.replace(year=2000)
    assert last_improvement(study, ["psnr"]) == 0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((math.nan,), "must be a number, but the trial gave nan"),
        ((None,), "must be a number, but the trial gave None"),
        (None, "must be a number, but the trial gave None"),
        ("abc", "must be a number, but the trial gave 'abc'"),
        ([[1.0]], r"must be a number, but the trial gave \[1.0\]"),
        ((1.0, 2.0), r"must be 1 objectives, but the trial gave \[1.0, 2.0\]"),
        ((), r"must be 1 objectives, but the trial gave \[\]"),
    ],
)
def test_what_is_no_result_fails_the_trial_in_words(values: Any, why: str) -> None:
    with pytest.raises(_JobError, match=why):
        _numbers(values, 1)


@pytest.mark.parametrize(
    "values", [(2.5,), [2.5], 2.5, ("2.5",), np.array([2.5]), torch.tensor(2.5)]
)
def test_what_a_task_may_give_as_its_result(values: Any) -> None:
    assert _numbers(values, 1) == (2.5,)
    assert _numbers((math.inf,), 1) == (math.inf,)


def test_a_trial_ends_under_the_lock_of_those_who_take_trials_over(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that looks and then writes would let one that was frozen between end it twice."""
    held: list[bool] = []

    @contextmanager
    def lock() -> Iterator[None]:
        held.append(True)
        yield
        held.pop()

    end, was_held = study._storage.set_trial_state_values, []

    def note(*arguments: Any) -> bool:
        was_held.append(held == [True])
        return end(*arguments)

    monkeypatch.setattr(study._storage, "set_trial_state_values", note)
    lease = Lease(study, "here-0", lambda: False)
    try:
        trial = private.begin(study, {LEASE: lease.next()})
        ports: Any = SimpleNamespace(lock=lock, system=REAL)
        claims: Any = SimpleNamespace(next_end=lambda: 1)
        worker = Worker(study, claims, lease, lambda claim: [], ports)
        worker._end(trial, None, TrialState.COMPLETE, [1.0])
    finally:
        lease.end()
    assert was_held == [True]
    assert study.trials[0].state == TrialState.COMPLETE


class Ended:
    """A process that has ended."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def kill(self) -> None: ...
    def join(self) -> None: ...


@pytest.mark.parametrize(("ends", "gives_up"), [("dxdxdxdxdxdx.", False), ("ddxdddd", True)])
def test_only_deaths_in_a_row_end_a_sweep(ends: str, gives_up: bool) -> None:
    """Workers die (d), or end a trial and die (x), or end as they should (.)."""
    trials = [0]
    script: Iterator[str] = iter(ends)

    class Scripted(Ended):
        def __init__(self) -> None:
            what = next(script)
            trials[0] += what == "x"
            super().__init__(0 if what == "." else -9)

    def wait(processes: Collection[Any]) -> None:
        return None

    pool = Pool(lambda index: Scripted(), wait, lambda process: False)
    arguments: dict[str, Any] = {
        "died": lambda index: True,
        "ended_trials": lambda: trials[0],
        "describe": lambda index, code: f"{index} ended with {code}",
    }
    if gives_up:
        with pytest.raises(UserError, match="4 in a row did not; 0 ended with -9"):
            pool.run(1, **arguments)
    else:
        pool.run(1, **arguments)


@pytest.mark.parametrize(("failures", "gives_up"), [(3, False), (4, True)])
def test_a_worker_that_cannot_be_started_is_started_again(failures: int, gives_up: bool) -> None:
    """No memory, no process or no space for its log, for a while."""
    left = [OSError("no more processes")] * failures

    def start(index: int) -> Ended:
        if left:
            raise left.pop()
        return Ended(0)

    pool = Pool(start, lambda processes: None, lambda process: False, Patient())
    arguments: dict[str, Any] = {
        "died": lambda index: True,
        "ended_trials": lambda: 0,
        "describe": lambda index, code: f"{index} ended with {code}",
    }
    if gives_up:
        with pytest.raises(PassingError, match="4 in a row did not; 0 ended with None"):
            pool.run(1, **arguments)
    else:
        pool.run(1, **arguments)
    assert not left


class Patient(RealSystem):
    """A machine on which waiting takes no time, and whose clock may be set."""

    ahead = 0.0

    def sleep(self, seconds: float) -> None: ...

    def utc(self) -> float:
        return super().utc() + self.ahead


def test_a_clock_that_is_set_ends_no_sweep(study: optuna.Study) -> None:
    plan: Any = SimpleNamespace(deadline=REAL.utc() + 600, session="s", settings=None)
    system = Patient()
    ends = deadline_of(plan, system)
    assert 590 < ends - system.elapsed() <= 600
    stopping = Stopping(study, plan, Counts("s"), system, is_command=True)
    system.ahead = 7200.0
    assert not stopping._is_over_time()
    workers = Stopping(study, plan, Counts("s"), system, is_command=False)
    assert not workers._is_over_time()
    study.set_user_attr(f"{OVER_TIME} s", True)
    assert workers._is_over_time()


def test_a_study_whose_maker_died_before_it_said_more_is_begun_again() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="vae", storage=storage, direction="maximize")
    rate = Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False)
    arguments: dict[str, Any] = {"space": Space((rate,)), "base": {}, "grid": False}
    found, _ = open_study(storage, "vae", objectives=["psnr"], **arguments)
    assert found.user_attrs[STUDY]["objectives"] == ["psnr"]
    again, _ = open_study(storage, "vae", objectives=["psnr"], **arguments)
    assert again.user_attrs[STUDY_ID] == found.user_attrs[STUDY_ID]
    optuna.create_study(study_name="other", storage=storage, direction="minimize")
    with pytest.raises(UserError, match="made by vaesweep, but 'other' was not"):
        open_study(storage, "other", objectives=["psnr"], **arguments)
