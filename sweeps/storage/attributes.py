"""Names of what vaesweep keeps in the user attributes of an Optuna trial or study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeps.space.points import canonical_name
from sweeps.storage.private import FIXED, history_of

STUDY = "vaesweep"
"""Of the study: what it searches (see `sweeps.study.definition`)."""
STUDY_ID = "study_id"
"""Of the study: unique in the world, and the same in its copies (see `record.membership`)."""
STOP = "stop"
"""Of the study: sessions whose workers should stop."""
DEADLINE = "deadline"
"""Of the study: seconds since the epoch after which no trial begins."""
OVER_TIME = "over time"
"""Of the study, with a command's session behind it: the deadline has passed by its clock."""
SEARCH = "search"
"""Of the study: how the last command that trained chose trials (see `sweeps.screen.continuing`)."""

SEED = "seed"
DIRECTORY = "directory"
"""Of the trial's record, on the machine that trained it."""
IDENTITY = "identity"
"""Hash of the resolved configuration, the data and the seed."""
LEASE = "lease"
"""Who trains the trial, and a counter that grows while it lives (see `sweeps.study.leases`)."""
REASON = "reason"
"""Why the trial failed or was pruned. Of one that is complete it says nothing: whoever took its
worker for dead may have written it too late to see that it had ended."""
SUMMARY = "summary"
"""The content of the trial's result.json that an analysis needs."""
OVERRIDES = "overrides"
"""Of Hydra, list of str."""
POINT = "cell"
"""Name of the trial's point: the values and the seed as text (see `sweeps.space.points`)."""
RETRIED = "retried"
"""Another trial does this one's work, so that it counts nowhere: `TAKEN` where its worker was lost
and a clone goes on, True where another had the same already."""
TAKEN = "taken over"
DEATHS = "deaths"
"""Of the trial's workers, without progress since: `alone`, once it had begun and with a command
that lived on, and `together`, the others; `step`, the last report by then; `owner`, the last that
was counted."""
ENDED = "ended"
"""In which order trials ended: one more than the highest that whoever ended it could see, so that
no clocks need agree."""
PROBE = "probe"
"""Of the study: written by one who watches, to know whether others can write."""
SAME_AS = "same_as"
"""Number of the trial whose values were copied, since it had the same identity."""
PAUSED = "paused"
"""The last epoch that was reported by a trial which was pruned for now (see `is_paused`)."""
PROMOTED = "promoted"
"""The epoch after which the trial was pruned, but from which it goes on."""
REPORTS = "reports"
"""Validation results by epoch, for several objectives: {"8": [19.1, 0.62]}."""
EPOCHS = "epochs"
"""The trial's max_epochs."""
PHASE = "phase"
CONFIRM = "confirm"
"""The phase that trains the best configurations again with fresh seeds."""
CONFIRMS = "confirms"
"""Number of the trial that is confirmed."""
RACE = "race"
"""Of the study: how the race of the best stands (see `sweeps.contest.confirming`)."""
DESIGN = "design"
"""Of the study: what it compares, and how it was planned (see `sweeps.contest.design`)."""


def session_of(trial: FrozenTrial) -> str:
    """The command whose worker trains or trained the trial; empty where nobody has begun."""
    worker = str((trial.user_attrs.get(LEASE) or {}).get("worker", ""))
    return worker.partition("-")[0]


def is_superseded(trial: FrozenTrial) -> bool:
    """Whether another trial does this one's work, so that it counts nowhere."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(RETRIED))


def is_paused(trial: FrozenTrial) -> bool:
    """Whether a trial was pruned for now, so that it may go on from its last report.

    One that somebody stopped at W&B, or that another pruner ended, was not. One that was promoted
    and came no further would be so for ever.
    """
    if trial.state != TrialState.PRUNED or PAUSED not in trial.user_attrs:
        return False
    last = (last_report(trial) or (0, []))[0]
    return bool(trial.user_attrs[PAUSED] == last != trial.user_attrs.get(PROMOTED))


def is_confirmation(trial: FrozenTrial) -> bool:
    """Whether the trial only repeats another with a fresh seed."""
    return trial.user_attrs.get(PHASE) == CONFIRM


def point_of(trial: FrozenTrial) -> str:
    """The name of the trial's point.

    A confirmation has one of its own: that it was trained does not take the point from a search
    that comes to it later.
    """
    if POINT not in trial.user_attrs:
        return f"trial {trial.number}"
    name = canonical_name(trial.user_attrs[POINT], trial.distributions)
    return confirmation_of(name) if is_confirmation(trial) else name


def confirmation_of(name: str) -> str:
    """The name that the confirmation of a point of that name has."""
    return f"{CONFIRM} {name}"


def level_of(trial: FrozenTrial, keys: Sequence[str]) -> str:
    """The name of a trial's level; empty where nothing is compared, or it has none yet."""
    values = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    if not keys or not values.keys() >= set(keys):
        return ""
    return name_of({key: values[key] for key in keys})


def name_of(values: Mapping[str, Any]) -> str:
    """The name of a level, for one key its value as text: `ssim`."""
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values.values()]
    return ", ".join(texts)


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials without those whose work another one does: of each chain of retries the last."""
    repeated = {number for trial in trials for number in history_of(trial)}
    return [t for t in trials if t.number not in repeated and not is_superseded(t)]


def budgeted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of which each takes one of the search's budget, finished or not."""
    return [t for t in counted(trials) if not is_confirmation(t) and SAME_AS not in t.user_attrs]


def last_report(trial: FrozenTrial) -> tuple[int, list[float | None]] | None:
    """The epoch and the values of the last validation that a trial has reported."""
    if trial.last_step is not None:
        return trial.last_step, [trial.intermediate_values[trial.last_step]]
    reports = trial.user_attrs.get(REPORTS)
    if not reports:
        return None
    epoch = max(map(int, reports))
    return epoch, list(reports[str(epoch)])
