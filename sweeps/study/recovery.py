"""Trials whose worker is gone, or that failed, get another chance.

All but `retry_failed` may be repeated at any point where they broke off; each is called under the
study's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps import bounds
from sweeps.storage import private
from sweeps.storage.attributes import (
    DEATHS,
    DIRECTORY,
    ENDED,
    LEASE,
    PROMOTED,
    REASON,
    RETRIED,
    SAME_AS,
    SUMMARY,
    TAKEN,
    is_superseded,
    last_report,
    session_of,
)
from sweeps.study.leases import Lease, lease_of, owner_of
from sweeps.system import REAL, System

_OF_ONE_TRIAL = {LEASE, REASON, RETRIED, SUMMARY, ENDED, SAME_AS}  # and not of its retry


def take_over(
    study: optuna.Study,
    trials: Iterable[FrozenTrial],
    max_retries: int,
    session: str = "",
    system: System = REAL,
) -> list[int]:
    """Give abandoned trials to whoever asks next.

    Each ends as failed, after which the storage refuses what its worker writes. Then a clone with
    the same parameters waits in its place, and goes on from the trial's last checkpoint if it finds
    that. Should the clone be missing, `retry_taken` makes it.

    What counts against a trial are deaths of its workers that follow each other without a report
    between: a trial that gets on is not what they die of. Nor, most often, is it one that had not
    begun, or what ends a worker and its command together, such as a reboot. (Whoever claims a trial
    and dies at once may not have seen that it is one too many.)

    A worker that is only frozen is ended if it is this command's, which would wait for it, or if
    its own command is gone: nobody needs it any more, and it may hold a lock.

    Args:
        study: of the trials.
        trials: as they were when they were found to be abandoned.
        max_retries: so many deaths a trial may have, since it began and while its command lives;
            some more if its record is finished.
        session: of this command.
        system: the machine.

    Returns:
        Numbers of the trials that were abandoned.
    """
    taken = []
    for trial in trials:
        if _has_moved(study, trial):
            continue  # somebody was faster, or its worker lives after all
        deaths = _deaths(trial, system)
        more = bounds.TELLS if _is_trained(trial, system) else 0
        is_retried = (
            deaths["alone"] <= max_retries + more and deaths["together"] <= bounds.DEATHS_TOGETHER
        )
        lease = lease_of(trial)
        who = f"{lease.get('worker', 'unknown')} on {lease.get('host', 'unknown')}"
        try:
            private.set_attribute(study, trial, DEATHS, deaths)
            private.set_attribute(study, trial, REASON, f"its worker died ({who})")
            private.set_attribute(study, trial, RETRIED, TAKEN if is_retried else False)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue  # somebody was faster, where the lock does not reach everybody
        if _has_moved(study, trial):  # the writes may have taken their time
            _unmark(study, trial)
            continue
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            private.end(study, trial, TrialState.FAIL)
        if private.read(study, trial).state != TrialState.FAIL:
            continue  # its worker ended it
        if is_retried:
            _clone(study, trial)
        is_orphan = "command" in lease and system.is_gone(lease["command"])
        if is_orphan or (session and session_of(trial) == session):
            system.kill(lease)
        taken.append(trial.number)
    return taken


def retry_taken(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Make the clones of trials that were taken over by somebody who died over it."""
    trials = study.get_trials(deepcopy=False)
    for number in numbers:
        _clone(study, trials[number])


def retry_failed(study: optuna.Study) -> int:
    """Let every failed trial that has no clone yet wait to be trained again; how many."""
    trials = study.get_trials(deepcopy=False)
    failed = [t for t in trials if t.state == TrialState.FAIL and not is_superseded(t)]
    return sum(_clone(study, trial, without={DEATHS}) for trial in failed)


def promote(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let a pruned trial go on: a clone waits to do what is left of its work."""
    report = last_report(trial)
    _clone(study, trial, more={PROMOTED: report[0] if report else 0})


def requeue_killed(study: optuna.Study, session: str, system: System = REAL) -> list[int]:
    """Kill the workers of a command that still train on this machine, and let their trials wait.

    Workers on other machines requeue their trials themselves when they stop.
    """
    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lease = lease_of(trial)
        if str(lease.get("worker")).startswith(f"{session}-") and system.kill(lease):
            # Where the lock does not reach everybody, it may have been taken over meanwhile.
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                private.requeue(study, trial)
                numbers.append(trial.number)
    return numbers


def requeue(study: optuna.Study, trial: optuna.Trial, lease: Lease) -> None:
    """Let another worker go on with a trial of this one, unless it has done so already."""
    current = private.read(study, trial)
    if current.state == TrialState.RUNNING and lease.is_mine(current):
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # it was taken over meanwhile
            private.requeue(study, current)


def _deaths(trial: FrozenTrial, system: System) -> dict[str, Any]:
    """The deaths that count against a trial, with that of its worker now.

    May be repeated after it was stored: no owner dies twice.
    """
    lease, report = lease_of(trial), last_report(trial)
    owner, step = owner_of(lease), report[0] if report is not None else None
    known = trial.user_attrs.get(DEATHS) or {}
    if known.get("step") != step:
        known = {}
    elif known.get("owner") == owner:
        return dict(known)
    is_shared = "command" in lease and system.is_gone(lease["command"])
    is_alone = not is_shared and DIRECTORY in trial.user_attrs
    return {
        "alone": known.get("alone", 0) + is_alone,
        "together": known.get("together", 0) + (not is_alone),
        "step": step,
        "owner": owner,
    }


def _is_trained(trial: FrozenTrial, system: System) -> bool:
    """Whether all that is left to do is to tell the study what the record says."""
    directory = trial.user_attrs.get(DIRECTORY)
    return directory is not None and system.has_record(directory, private.first_of(trial))


def _has_moved(study: optuna.Study, trial: FrozenTrial) -> bool:
    current = private.read(study, trial)
    return current.state != TrialState.RUNNING or lease_of(current) != lease_of(trial)


def _unmark(study: optuna.Study, trial: FrozenTrial) -> None:
    try:
        private.set_attribute(study, trial, REASON, None)
        private.set_attribute(study, trial, RETRIED, False)
        private.set_attribute(study, trial, DEATHS, trial.user_attrs.get(DEATHS))
    except optuna.exceptions.UpdateFinishedTrialError:
        return  # it has ended by itself, which says the reason


def _clone(
    study: optuna.Study,
    trial: FrozenTrial,
    *,
    without: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> bool:
    """Make a trial's clone, unless it has one; without some of its attributes, and with more."""
    trials = study.get_trials(deepcopy=False)
    if any(trial.number in private.history_of(other) for other in trials):
        return False
    current, left_out = trials[trial.number], _OF_ONE_TRIAL | set(without)
    kept = {key: value for key, value in current.user_attrs.items() if key not in left_out}
    private.clone(study, current, {**kept, **(more or {})})
    return True
