"""A trial that changes hands is held by one worker, and by the right one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

import sweeps
from experiments.errors import Interrupted
from sweeps import bounds
from sweeps.storage import private
from sweeps.storage.attributes import DEATHS, DIRECTORY, LEASE
from sweeps.study import recovery
from sweeps.study.leases import Lease, Watch, lease_of
from sweeps.study.recovery import requeue_killed, retry_failed, take_over
from sweeps.system import REAL, born, is_known_gone, is_stopped
from sweeps.workers.task import Report, WorkerSettings
from tests.simulated import SimulatedJob, SimulatedTask


@pytest.fixture
def study() -> optuna.Study:
    """A study with one running trial, of a worker on this machine."""
    study = optuna.create_study()
    study.ask()
    return study


@pytest.fixture
def worker(study: optuna.Study) -> Iterator[subprocess.Popen[bytes]]:
    """The process that holds the trial."""
    process = subprocess.Popen(["sleep", "600"])
    lease = {**REAL.this_process(), "worker": "earlier-0", "pid": process.pid, "beat": 1}
    lease["born"] = born(process.pid)
    optuna.Trial(study, 0).set_user_attr(LEASE, lease)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("of", ["ours", "a dead command", "a live command"])
def test_a_stopped_worker_that_nobody_else_would_end_is_ended_with_its_trial(
    study: optuna.Study, worker: subprocess.Popen[bytes], of: str
) -> None:
    """It may have been stopped while it held a lock."""
    command = REAL.this_process()
    if of == "a dead command":
        command = {**command, "born": "0"}
    optuna.Trial(study, 0).set_user_attr(LEASE, {**lease_of(study.trials[0]), "command": command})
    session = "earlier" if of == "ours" else "here"
    worker.send_signal(signal.SIGSTOP)
    try:
        assert take_over(study, running(study), max_retries=1, session=session) == [0]
        if of == "a live command":
            assert worker.poll() is None
        else:
            assert worker.wait() == -signal.SIGKILL
    finally:
        worker.kill()
        worker.wait()


def test_a_process_that_is_not_ours_to_kill_or_has_just_ended_is_let_be(
    worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = {**REAL.this_process(), "pid": worker.pid, "born": born(worker.pid)}

    def refuse(pid: int, number: int) -> None:
        raise refusal

    monkeypatch.setattr(os, "kill", refuse)
    refusal: OSError = PermissionError()
    assert not REAL.kill(lease)
    refusal = ProcessLookupError()
    assert REAL.kill(lease)
    monkeypatch.undo()
    worker.kill()
    worker.wait()


def running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.RUNNING,))


@pytest.mark.parametrize("applied", [False, True])
def test_a_trial_of_a_killed_worker_waits_although_the_storage_fails_over_it(
    study: optuna.Study, worker: subprocess.Popen[bytes], applied: bool
) -> None:
    storage: Any = study._storage
    names = [name for name in dir(storage) if name.startswith("set_trial")]
    write = {name: getattr(storage, name) for name in names}
    failures = [ConnectionError()]

    def fails_once(name: str, *arguments: Any) -> Any:
        found = write[name](*arguments) if applied or not failures else None
        if failures:
            raise failures.pop()
        return found

    for name in names:
        setattr(storage, name, partial(fails_once, name))
    with pytest.raises(ConnectionError):
        requeue_killed(study, "earlier")
    requeue_killed(study, "earlier")
    assert worker.wait() != 0
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


LIVING, DEAD = REAL.this_process(), {**REAL.this_process(), "boot": "an earlier one"}


def die(study: optuna.Study, command: Any = LIVING, *, step: int | None = None) -> bool:
    """A worker takes the trial that runs or waits, reports, and dies; whether it is retried."""
    trials = study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    trial = study.ask() if trials[0].state == TrialState.WAITING else optuna.Trial(study, 0)
    gone = {**DEAD, "worker": f"here-{trial.number}", "beat": 1, "command": command}
    trial.set_user_attr(LEASE, gone)
    trial.set_user_attr(DIRECTORY, "nowhere")
    if step is not None:
        trial.report(1.0, step)
    take_over(study, Watch(study).look(running(study)), max_retries=1)
    return study.trials[-1].state == TrialState.WAITING


def test_deaths_in_a_row_cost_the_trial(study: optuna.Study) -> None:
    assert [die(study) for _ in range(2)] == [True, False]


def test_deaths_with_a_report_between_do_not_add_up(study: optuna.Study) -> None:
    assert all(die(study, step=step) for step in range(6))
    assert not die(study)


def test_a_command_that_dies_with_its_workers_is_not_held_against_the_trial(
    study: optuna.Study,
) -> None:
    assert all(die(study, DEAD) for _ in range(bounds.DEATHS_TOGETHER))
    assert not die(study, DEAD)


def test_a_trial_that_the_user_wants_again_begins_anew(study: optuna.Study) -> None:
    assert [die(study), die(study)] == [True, False]
    assert retry_failed(study) == 1
    assert [die(study), die(study)] == [True, False]


def test_a_death_counts_once_although_its_taker_dies_over_it(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(private, "end", raise_connection_error)
        with pytest.raises(ConnectionError):
            die(study)
    take_over(study, Watch(study).look(running(study)), max_retries=1)
    assert study.trials[-1].state == TrialState.WAITING
    assert study.trials[-1].user_attrs[DEATHS]["alone"] == 1


def raise_connection_error(*_: Any) -> None:
    raise ConnectionError


def test_a_trial_that_somebody_ended_meanwhile_is_not_made_to_wait(
    study: optuna.Study, worker: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(study, "here-0", lambda: False)
    requeue = private.requeue

    def too_late(study: optuna.Study, trial: Any) -> None:
        study.tell(trial.number, state=TrialState.FAIL)
        requeue(study, trial)

    monkeypatch.setattr(private, "requeue", too_late)
    assert requeue_killed(study, "earlier") == []
    try:
        mine = study.ask()
        lease.take(mine)
        recovery.requeue(study, mine, lease)
    finally:
        lease.end()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.FAIL]


def test_the_clone_of_an_abandoned_trial_is_not_abandoned_while_it_is_claimed(
    study: optuna.Study, worker: subprocess.Popen[bytes]
) -> None:
    worker.kill()
    worker.wait()
    assert take_over(study, Watch(study).look(running(study)), max_retries=1) == [0]
    study.ask()
    assert [trial.number for trial in running(study)] == [1]
    assert Watch(study).look(running(study)) == []


def test_a_trial_that_had_not_begun_is_claimed_again_however_few_retries_there_are(
    study: optuna.Study, worker: subprocess.Popen[bytes]
) -> None:
    # Its worker may have died before it saw that it had claimed one too many.
    worker.kill()
    worker.wait()
    watch = Watch(study)
    assert take_over(study, watch.look(running(study)), max_retries=0) == [0]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    lease = study.trials[0].user_attrs[LEASE]

    again = study.ask()
    again.set_user_attr(LEASE, lease | {"worker": "earlier-1"})
    again.set_user_attr(DIRECTORY, "begun")
    assert take_over(study, watch.look(running(study)), max_retries=0) == [1]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.FAIL]


def test_nothing_is_written_about_a_trial_that_was_dropped(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "HEARTBEAT", 0.01)
    log: list[str] = []

    class Slow(optuna.Trial):
        def set_user_attr(self, key: str, value: Any) -> None:
            log.append("begin")
            time.sleep(0.1)
            super().set_user_attr(key, value)
            log.append("end")

    lease = Lease(study, "here-0", lambda: False)
    try:
        lease.take(Slow(study, 0))
        while log[-1] != "begin":  # until a beat is under way
            time.sleep(0.001)
        lease.drop()
        written = len(log)
        assert log[-1] == "end"
        time.sleep(0.05)
        assert len(log) == written
    finally:
        lease.end()


@dataclass(frozen=True)
class SleepyTask(SimulatedTask):
    """Its first trial is given to another worker while it trains."""

    def prepare(
        self, overrides: Sequence[str], number: int, settings: WorkerSettings
    ) -> SimulatedJob:
        return SleepyJob(self, list(overrides), number)


class SleepyJob(SimulatedJob):
    """Of `SleepyTask`."""

    endings: list[type[BaseException] | None] = []  # noqa: RUF012  # of every run, in order

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        if not self.endings:
            study = optuna.load_study(
                study_name="vae", storage=f"sqlite:///{Path(self.directory).parent}/study.db"
            )
            taken: list[int] = []
            while not taken:  # its heart may beat between the look and the mark
                taken = take_over(study, running(study), max_retries=1)
            assert taken == [0]
        try:
            values = super().run(report, should_stop)
        except Exception as error:
            self.endings.append(type(error))
            raise
        self.endings.append(None)
        return values


@pytest.mark.slow
def test_a_worker_whose_trial_was_taken_over_leaves_it_alone_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SleepyJob, "endings", [])
    sweep = sweeps.run(
        ["lr=1e-3,3e-4", "hydra.sweeper.n_jobs=0", "hydra.sweeper.storage=sqlite:///study.db"],
        task=SleepyTask(log=str(tmp_path / "log")),
    )
    first, *others = SleepyJob.endings
    assert first is not None
    assert issubclass(first, Interrupted)  # so that the record's checkpoint stays
    assert others == [None, None]
    states: list[Any] = [(t.state, t.params["lr"]) for t in sweep.study.trials]
    assert states == [
        (TrialState.FAIL, 1e-3),
        (TrialState.COMPLETE, 1e-3),
        (TrialState.COMPLETE, 3e-4),
    ]
    assert "trial 0 was taken over by another worker" in caplog.text


HERE = {"host": "a", "machine": "m", "boot": "1", "namespace": "n"}
IT = {**HERE, "pid": 7, "born": "5"}


@pytest.mark.parametrize(
    ("process", "is_gone"),
    [
        ({}, False),
        ({"born": "4"}, True),
        ({"pid": 8}, True),
        ({"boot": "0"}, True),
        ({"namespace": "o"}, False),
        ({"namespace": "o", "boot": "0"}, False),
        ({"host": "b", "boot": "0"}, False),
        ({"machine": "l", "boot": "0"}, False),
    ],
    ids=["lives", "number used again", "ended", "rebooted", "another container",
         "of a container", "another host", "another machine of that name"],
)  # fmt: skip
def test_a_process_is_gone_only_where_that_can_be_known(
    process: dict[str, Any], is_gone: bool
) -> None:
    processes = {7: "5"}
    assert is_known_gone({**IT, **process}, HERE, processes.get) is is_gone


def test_a_machine_without_an_id_may_be_another_of_its_name() -> None:
    unnamed = {**IT, "machine": "", "boot": "0"}
    assert not is_known_gone(unnamed, {**HERE, "machine": ""}, {7: "5"}.get)


def test_this_process_lives_and_its_number_means_it() -> None:
    here = REAL.this_process()
    assert not REAL.is_gone(here)
    assert REAL.is_gone({**here, "born": "0"})
    assert REAL.is_gone({**here, "boot": "an earlier one"}) is bool(here["machine"])
    assert not REAL.is_gone({**here, "namespace": "pid:[1]", "born": "0"})
    assert not is_stopped(os.getpid())


class Clock:
    """A machine on which time passes as a test says."""

    now = 0.0

    def elapsed(self) -> float:
        return self.now

    def is_gone(self, process: object) -> bool:
        return False


def test_silence_counts_only_while_one_can_write(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Any = Clock()
    watch = Watch(study, clock)
    write = study.set_user_attr
    refused = ConnectionError("locked")

    def looks(seconds: float) -> list[FrozenTrial]:
        found: list[FrozenTrial] = []
        end = clock.now + seconds
        while clock.now < end and not found:
            clock.now += 1.0
            try:
                found = watch.look(running(study))
            except ConnectionError:
                continue
        return found

    def refuse(key: str, value: Any) -> None:
        raise refused

    assert looks(bounds.SUSPICION + bounds.LEASE_TIMEOUT / 2) == []
    monkeypatch.setattr(study, "set_user_attr", refuse)
    assert looks(10 * bounds.LEASE_TIMEOUT) == [], "nobody could write"
    monkeypatch.setattr(study, "set_user_attr", write)
    assert looks(bounds.LEASE_TIMEOUT / 4) == []
    clock.now += 10 * bounds.LEASE_TIMEOUT  # the watcher itself was frozen
    assert looks(bounds.LEASE_TIMEOUT / 8) == []
    assert [t.number for t in looks(bounds.LEASE_TIMEOUT)] == [0]


def test_a_trial_whose_heart_beats_before_it_is_ended_is_left_alone(study: optuna.Study) -> None:
    """The write that announces it took its time."""
    (found,) = running(study)
    set_attribute = study._storage.set_trial_user_attr

    def slow(trial_id: int, key: str, value: Any) -> None:
        set_attribute(trial_id, key, value)
        if key == "retried" and value:
            set_attribute(trial_id, LEASE, {"worker": "here-0", "beat": 2})

    study._storage.set_trial_user_attr = slow  # type: ignore[method-assign]
    assert take_over(study, [found], max_retries=2) == []
    (trial,) = study.trials
    assert trial.state == TrialState.RUNNING
    assert not trial.user_attrs["retried"]
    assert trial.user_attrs["reason"] is None


def test_a_trial_that_another_takes_over_at_the_same_time_is_left_to_it(
    study: optuna.Study,
) -> None:
    """As can be where a server that restarts lets go of the study's lock."""
    (found,) = running(study)
    set_attribute = study._storage.set_trial_user_attr

    def late(trial_id: int, key: str, value: Any) -> None:
        study._storage.set_trial_user_attr = set_attribute  # type: ignore[method-assign]
        assert take_over(study, [found], max_retries=2) == [0]
        set_attribute(trial_id, key, value)

    study._storage.set_trial_user_attr = late  # type: ignore[method-assign]
    assert take_over(study, [found], max_retries=2) == []
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_bounds_are_in_their_order() -> None:
    """As the module asserts; where Python runs without assertions, here."""
    longest_silence = bounds.RETRY_WINDOW + 2 * bounds.STORAGE_CALL + bounds.HEARTBEAT
    assert longest_silence < bounds.LEASE_TIMEOUT
    assert 3 * bounds.HEARTBEAT < bounds.SUSPICION
