"""What a sweep has left, and whether another one of the same trials has left the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.record import read_history
from experiments.record.membership import membership, result_in
from sweeps.storage import private
from sweeps.storage.attributes import DIRECTORY, REASON, STUDY_ID, is_superseded, point_of

_LOG, _COMPLETED = "run.log", " experiments.trial: completed: "


@dataclass(frozen=True)
class Outcome:
    """Of a trial, in the study and on the disk.

    Attributes:
        number: of the trial.
        point: name of its parameters and seed.
        state: of Optuna.
        values: that the study has.
        reason: why it failed.
        faults: what is wrong with its record.
        weights: a digest of the final ones.
        history: of validations, all that it says.
    """

    number: int
    point: str
    state: TrialState
    values: tuple[float, ...] = ()
    reason: str = ""
    faults: tuple[str, ...] = ()
    weights: str = ""
    history: str = ""


def outcomes(study: optuna.Study) -> list[Outcome]:
    """Of all trials of a study but those whose work another one does, whose records are here."""
    trials = study.get_trials(deepcopy=False)
    return [_outcome(study, trial) for trial in trials if not is_superseded(trial)]


def differences(undisturbed: Iterable[Outcome], disturbed: Iterable[Outcome]) -> list[str]:
    """In what the second of two sweeps over the same points is not as the first, in words."""
    first, second = _by_point(undisturbed), _by_point(disturbed)
    found = [f"{point}: no trial has it" for point in first if point not in second]
    for point, trials in second.items():
        if point not in first:
            found.append(f"{point}: {_named(trials)}, which nobody asked for")
            continue
        if len(trials) > 1:
            found.append(f"{point}: trained {len(trials)} times, by {_named(trials)}")
        for trial in trials:
            found += [f"{point}: trial {trial.number} {what}" for what in _wrong(trial)]
            found += [
                f"{point}: trial {trial.number} has {what} than undisturbed"
                for what in _others(first[point][0], trial)
            ]
    return found


def _wrong(trial: Outcome) -> list[str]:
    if not trial.state.is_finished():
        return [f"is still {trial.state.name.lower()}"]
    if trial.state != TrialState.COMPLETE:
        return [f"ended as {trial.state.name.lower()}: {trial.reason}"]
    return list(trial.faults)


def _others(first: Outcome, second: Outcome) -> list[str]:
    if second.state != TrialState.COMPLETE:
        return []
    compared = {
        "other final weights": first.weights == second.weights,
        "another history": first.history == second.history,
        f"another result, {second.values}": first.values == second.values,
    }
    return [what for what, is_equal in compared.items() if not is_equal]


def _by_point(trials: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    for trial in trials:
        found[trial.point].append(trial)
    return found


def _named(trials: Collection[Outcome]) -> str:
    return "trial " + " and ".join(str(trial.number) for trial in trials)


def _outcome(study: optuna.Study, trial: FrozenTrial) -> Outcome:
    point, reason = point_of(trial), trial.user_attrs.get(REASON) or ""
    if trial.state != TrialState.COMPLETE:
        return Outcome(trial.number, point, trial.state, reason=reason)
    directory = Path(str(trial.user_attrs.get(DIRECTORY)))
    values = tuple(trial.values)
    faults = tuple(_faults(directory, study.user_attrs.get(STUDY_ID), trial, values))
    weights, history = _weights(directory), str(read_history(directory))
    return Outcome(
        trial.number, point, trial.state, values, reason, faults, weights, history
    )  # fmt: skip


def _faults(
    directory: Path, study: str | None, trial: FrozenTrial, values: tuple[float, ...]
) -> Iterable[str]:
    result = result_in(directory)
    if result is None:
        yield f"has no record in {directory}"
        return
    if result["status"] != "completed":
        yield f"is complete, but its record is {result['status']}"
    of = membership(result)
    if of is None or (of.id, of.trial) != (study, private.first_of(trial)):
        yield f"has the record of {of}"
    stored = tuple((result.get("objective") or {}).get("values", ()))
    if stored != values:
        yield f"has {values} in the study, but {stored} in its record"
    epochs = [row["epoch"] for row in read_history(directory)]
    if epochs != sorted(set(epochs)):
        yield f"has a history of the epochs {epochs}"
    ends = _ends(directory / _LOG)
    if ends > 1:
        yield f"was trained to its end {ends} times"


def _ends(log: Path) -> int:
    """How often a training says that it has come to its end."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").count(_COMPLETED)
    except FileNotFoundError:
        return 0


def _weights(directory: Path) -> str:
    """A digest of the tensors, since files differ in the time when they were written."""
    from experiments.record.checkpoint import read_checkpoint
    from experiments.training import CHECKPOINT

    try:
        state: dict[str, Any] = read_checkpoint(directory / CHECKPOINT)["state_dict"]
    except (OSError, ValueError) as error:
        return f"none: {error}"
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}\n".encode())
        digest.update(state[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
