"""Trials whose worker died, or that failed, get another chance."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from copy import copy

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from sweeps.attributes import LEASE, REASON, RETRIED, is_withdrawn
from sweeps.leases import end


def reclaim(study: optuna.Study, trials: Iterable[FrozenTrial], max_retries: int) -> list[int]:
    """Give abandoned trials to whoever asks next; call it under the study's lock.

    Each ends as failed, and a clone with the same parameters waits in its place, up to
    `max_retries` times. The clone goes on from the trial's last checkpoint if it finds that.

    Returns:
        Numbers of the trials that were abandoned.
    """
    reclaimed = []
    for trial in trials:
        current = study.get_trials(deepcopy=False)[trial.number]
        if current.state != TrialState.RUNNING or current.user_attrs != trial.user_attrs:
            continue  # somebody was faster, or its worker lives after all
        lease = trial.user_attrs.get(LEASE) or {}
        who = f"{lease.get('worker', 'unknown')} on {lease.get('host', 'unknown')}"
        _set(study, current, REASON, f"its worker died ({who})")
        # The clone comes first: a death between the two must not lose the trial.
        if _clone(study, current, max_retries):
            _set(study, current, RETRIED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        reclaimed.append(trial.number)
    return reclaimed


def retry_failed(study: optuna.Study) -> int:
    """Let every failed trial that has no clone yet wait to be trained again; how many."""
    trials = study.get_trials(deepcopy=False)
    retried = {n for t in trials for n in t.system_attrs.get("retry_history", [])}
    failed = [
        t
        for t in trials
        if t.state == TrialState.FAIL and not is_withdrawn(t) and t.number not in retried
    ]
    for trial in failed:
        _clone(study, trial, None)
    return len(failed)


def put_back(study: optuna.Study, session: str) -> list[int]:
    """Kill the workers of a command that still train on this machine, and let their trials wait.

    Workers on other machines put their trials back themselves when they stop.
    """
    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lease = trial.user_attrs.get(LEASE) or {}
        if str(lease.get("worker")).startswith(f"{session}-") and end(lease):
            let_wait(study, trial._trial_id)
            numbers.append(trial.number)
    return numbers


def let_wait(study: optuna.Study, trial_id: int) -> None:
    """Let another worker go on with a running trial.

    Its lease goes with it: whoever claims the trial would hold that of the last worker, which
    may be dead, until its own is written, and the trial would be taken for abandoned.
    """
    study._storage.set_trial_user_attr(trial_id, LEASE, None)
    study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def _clone(study: optuna.Study, trial: FrozenTrial, max_retries: int | None) -> bool:
    trials = study.get_trials(deepcopy=False)
    if any(t.system_attrs.get("retry_history", [])[-1:] == [trial.number] for t in trials):
        return True  # by somebody who died before the trial could be ended
    before = len(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback(max_retries, inherit_intermediate_values=True)
    unclaimed = copy(trial)
    unclaimed.user_attrs = {k: v for k, v in trial.user_attrs.items() if k != LEASE}
    retry(study, unclaimed)
    return len(study.get_trials(deepcopy=False)) > before


def _set(study: optuna.Study, trial: FrozenTrial, key: str, value: object) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, key, value)
