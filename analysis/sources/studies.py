"""Trials from an Optuna study alone: what workers leave there is enough without their records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import losses
from analysis.runs import CONFIRM, SEARCH, Broken, column_of, parsed_design
from analysis.sources.found import (
    Findings,
    Found,
    Row,
    as_columns,
    checkpoint_in,
    config_of,
    row_of,
    run_id,
)
from experiments.errors import UserError
from experiments.metrics import METRICS, direction
from experiments.record import RESULT
from experiments.record.foreign import first_line
from experiments.record.membership import Membership, holds
from sweeps.results.reading import readable
from sweeps.storage import attributes
from sweeps.study.definition import SCHEMA_VERSION

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_SCALING = tuple(f"loss.{key}" for key in losses.SCALING)
"""Keys that stay as they are when another loss is chosen."""
_STATUSES = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


def read(study: Study, source: str) -> Findings:
    """The trials of a study that count: not those whose work another one does.

    A trial whose worker died has the number of the first trial that it continues, as its record
    has; a trial that was ended as the copy of another is left out. `source` is how to name the
    study, without passwords.

    Raises:
        UserError: it is not vaesweep's, or another version's.
    """
    with readable(source):
        description = _description(study, source)
        frozen = attributes.counted(study.get_trials(deepcopy=False))
        frozen = [trial for trial in frozen if attributes.SAME_AS not in trial.user_attrs]
        name = _sweep_name(study, frozen)
    columns = tuple(map(column_of, description["space"]))
    findings = Findings()
    if "experiments" not in columns:  # whose choices may set anything
        findings.searched[source, name] = columns
    stored = study.user_attrs.get(attributes.DESIGN)
    if stored is not None:
        try:
            findings.designs[source, name] = parsed_design(stored)
        except ValueError as error:
            findings.broken.append(Broken(source, str(error)))
    for trial in frozen:
        try:
            found = _found(trial, name, source, description)
        # What attributes of other types than ours make of it.
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            findings.broken.append(Broken(f"{source}, trial {trial.number}", first_line(error)))
            continue
        findings.trials.append(found)
        directory = _record(trial)
        if directory is not None and not _is_its_own(study, trial, found.number, directory):
            found.row |= {"directory": None, "checkpoint": None}
            reason = f"it holds the record of another trial than {found.label} of {source}"
            findings.broken.append(Broken(directory, reason))
    return findings


def _record(trial: FrozenTrial) -> str | None:
    """The directory that holds the trial's record or, by now, another one's."""
    directory = trial.user_attrs.get(attributes.DIRECTORY)
    if (
        not isinstance(directory, str)
        or "\0" in directory
        or not os.path.isfile(os.path.join(directory, RESULT))
    ):
        return None
    return str(directory)


def _is_its_own(study: Study, trial: FrozenTrial, number: int | None, directory: str) -> bool:
    own = Membership(study.user_attrs.get(attributes.STUDY_ID, ""), study.study_name, number or 0)
    return holds(Path(directory), own, trial.user_attrs.get(attributes.IDENTITY))


def _description(study: Study, source: str) -> Mapping[str, Any]:
    stored = study.user_attrs.get(attributes.STUDY)
    if not isinstance(stored, dict):
        raise UserError(f"a study must be that of a vaesweep sweep, but {source} is not")
    if stored.get("schema") != SCHEMA_VERSION:
        raise UserError(
            f"a study must have schema {SCHEMA_VERSION}, but {source} has "
            f"{stored.get('schema')!r}; use the version of vaesweep that made it"
        )
    space, base, objectives = (stored.get(key) for key in ("space", "base", "objectives"))
    if not (
        isinstance(space, dict)
        and isinstance(base, dict)
        and isinstance(objectives, list)
        and objectives
        and all(isinstance(name, str) and name in METRICS for name in objectives)
    ):
        raise UserError(f"a study must say what it searched and by what, but {source} does not")
    return stored


def _sweep_name(study: Study, trials: Sequence[FrozenTrial]) -> str:
    """The `name` of the config, by which the records go; a study may have another."""
    summaries = (_summary(trial) for trial in trials)
    names = (summary["name"] for summary in summaries if isinstance(summary.get("name"), str))
    return next(names, study.study_name)


def _summary(trial: FrozenTrial) -> Mapping[str, Any]:
    found = trial.user_attrs.get(attributes.SUMMARY)
    return found if isinstance(found, Mapping) else {}


def _found(trial: FrozenTrial, sweep: str, source: str, description: Mapping[str, Any]) -> Found:
    attrs = trial.user_attrs
    summary = _summary(trial)
    number = int(trial.system_attrs.get("failed_trial", trial.number))
    status = _status(trial, summary)
    seed = attrs.get(attributes.SEED, summary.get("seed"))
    config = config_of(summary) or _expected_config(trial, description["base"])
    history, directory = _history(trial, description["objectives"]), _record(trial)
    if status in ("running", "waiting", "interrupted"):
        summary = {}  # of an earlier attempt
    row = row_of(summary) | {
        "source": source,
        "phase": CONFIRM if attributes.is_confirmation(trial) else SEARCH,
        "status": status,
        "reason": attrs.get(attributes.REASON) if status != "completed" else None,
        "seed": seed,
        "epochs": summary.get("epochs") or (history[-1]["epoch"] + 1 if history else None),
        "directory": directory,
        "checkpoint": checkpoint_in(directory, summary.get("checkpoint")) if directory else None,
    }
    if status in ("completed", "pruned") and not summary.get("metrics"):
        row |= _values(trial, description["objectives"], history)
    return Found(
        origin=source,
        sweep=sweep,
        number=number,
        label=f"{sweep}/{number}",
        config=config if seed is None else config | {"seed": seed},
        row=row,
        history=history,
        run=run_id(summary),
    )


def _status(trial: FrozenTrial, summary: Mapping[str, Any]) -> str:
    if trial.state.name in _STATUSES:
        return _STATUSES[trial.state.name]
    begun = attributes.DIRECTORY in trial.user_attrs and summary.get("status") != "failed"
    return "interrupted" if begun else "waiting"


def _expected_config(trial: FrozenTrial, base: Mapping[str, Any]) -> Row:
    """The config of a trial that has left none yet, as far as the study tells."""
    # A trial that waits has its parameters fixed only.
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    params = {column_of(key): value for key, value in params.items()}
    if "experiments" in params:
        del params["experiments"]
        return params
    chosen = {key for key in params if key.endswith(".name") and params[key] != base.get(key)}
    others = tuple(f"{key.removesuffix('name')}" for key in chosen)
    kept = {
        key: value
        for key, value in base.items()
        if key != attributes.SEED and (key in _SCALING or not key.startswith(others))
    }
    return as_columns(kept | params)


def _history(trial: FrozenTrial, objectives: Sequence[str]) -> list[Row]:
    """What the trial has reported; the study counts epochs from 1."""
    reports: Mapping[Any, Sequence[float | None]]
    reports = {step: [value] for step, value in trial.intermediate_values.items()}
    reports = reports or trial.user_attrs.get(attributes.REPORTS) or {}
    return [
        {
            "epoch": int(epoch) - 1,
            **{f"val/{name}": v for name, v in zip(objectives, values, strict=False)},
        }
        for epoch, values in sorted(reports.items(), key=lambda item: int(item[0]))
    ]


def _values(trial: FrozenTrial, objectives: Sequence[str], history: Sequence[Row]) -> Row:
    """The objectives of a trial that has left no summary."""
    if trial.values:
        return {f"val/{name}": v for name, v in zip(objectives, trial.values, strict=False)}
    first = f"val/{objectives[0]}"
    better = max if direction(objectives[0]) == "maximize" else min
    scored = [row for row in history if row[first] is not None]
    if not scored:
        return {}
    best = better(scored, key=lambda row: float(row[first]))
    return {key: value for key, value in best.items() if key != "epoch"}
