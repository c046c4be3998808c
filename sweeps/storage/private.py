"""What the protocol needs of Optuna beyond its public interface, in one place.

Optuna's `ask` begins a trial in several steps, of which each may be the last: a trial that waits
is popped whoever it is for, and one that is begun has no owner until a later call names it. Here
a trial has its owner from its first moment, and a worker takes the one that it means. What is
used: `Study._storage` and `Study._study_id`, `Trial(study, id)`, `Trial._trial_id`,
`Trial._suggest`, `Trial._cached_frozen_trial`, the system attributes of
`RetryHeartbeatStaleTrialCallback`, by which Optuna and its dashboard know a retry,
`_fast_non_domination_rank`, and the file and lock of a journal. tests/test_sweep_private.py holds
these against the pinned version.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import FrozenTrial, TrialState, create_trial

_LONGEST_LINE = 1 << 26  # bytes of a journal
FIXED = "fixed_params"
FIRST = "failed_trial"
HISTORY = "retry_history"


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """The number by which the storage knows a trial, of whatever study."""
    return trial._trial_id


def read(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> FrozenTrial:
    """A trial as the storage has it now."""
    return study._storage.get_trial(trial._trial_id)


def is_set(study: optuna.Study, key: str) -> bool:
    """Whether a study has an attribute; without the copy of all of them that Optuna makes."""
    return bool(study._storage.get_study_user_attrs(study._study_id).get(key))


def known(trial: optuna.Trial) -> FrozenTrial:
    """A trial as its worker knows it: as the storage had it when it was taken, and what it set."""
    return trial._cached_frozen_trial


def attributes(trial: optuna.Trial) -> Mapping[str, Any]:
    """A trial's user attributes as its worker knows them; without Optuna's deep copy."""
    return known(trial).user_attrs


def begin(
    study: optuna.Study,
    attributes: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, BaseDistribution] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> optuna.Trial:
    """A new running trial, whose attributes are there from its first moment.

    So are its parameters, if they were chosen elsewhere, and the values that a sampler may not
    choose.
    """
    template = create_trial(
        state=TrialState.RUNNING,
        user_attrs=dict(attributes),
        params=dict(params or {}),
        distributions=dict(distributions or {}),
        system_attrs={FIXED: dict(fixed)} if fixed else {},
    )
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


def take(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial | None:
    """A trial that waited, now running; None if somebody was faster."""
    try:
        is_mine = study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    except optuna.exceptions.UpdateFinishedTrialError:
        return None
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, trial._trial_id) if is_mine else None


def adopt(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A running trial, to go on with."""
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, trial._trial_id)


def set_attribute(study: optuna.Study, trial: FrozenTrial, key: str, value: object) -> None:
    """Of a trial that is no worker's of this process."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def end(
    study: optuna.Study,
    trial: optuna.Trial | FrozenTrial,
    state: TrialState,
    values: Sequence[float] | None = None,
) -> None:
    """End a running trial; the sampler hears of it as from `Study.tell`.

    Raises:
        optuna.exceptions.UpdateFinishedTrialError: it has ended already, or others let it wait.
    """
    try:
        study.tell(trial.number, values, state=state)
    except ValueError as error:  # as `tell` says it of a trial that does not run
        if read(study, trial).state == TrialState.RUNNING:
            raise
        raise optuna.exceptions.UpdateFinishedTrialError(str(error)) from error


def requeue(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Let a running trial wait."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """The value of a parameter: its fixed one, or the sampler's."""
    return trial._suggest(name, distribution)


def store(trial: optuna.Trial, name: str, value: Any, distribution: BaseDistribution) -> None:
    """Give a parameter of a running trial another value."""
    internal = distribution.to_internal_repr(value)
    trial.storage.set_trial_param(trial._trial_id, name, internal, distribution)


def fix(study: optuna.Study, trial: optuna.Trial, values: Mapping[str, Any]) -> optuna.Trial:
    """The trial with values that were chosen elsewhere, which `suggest` gives it."""
    study._storage.set_trial_system_attr(trial._trial_id, FIXED, dict(values))
    trial._fixed_params = dict(values)
    return trial


def clone(study: optuna.Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """A trial that waits to do a failed one's work, and has what that one has reported."""
    history = [*trial.system_attrs.get(HISTORY, ()), trial.number]
    system = {**trial.system_attrs, FIRST: history[0], HISTORY: history}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=dict(attributes),
            system_attrs=system,
            intermediate_values=trial.intermediate_values,
        )
    )


def history_of(trial: FrozenTrial) -> Sequence[int]:
    """Numbers of the trials whose work it does again, the first first."""
    history: Sequence[int] = trial.system_attrs.get(HISTORY, ())
    return history


def first_of(trial: FrozenTrial) -> int:
    """Number of the first trial of the chain that a trial belongs to."""
    return int(trial.system_attrs.get(FIRST, trial.number))


def with_trials(
    study: optuna.Study,
    chosen: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]],
    name: str = "",
) -> optuna.Study:
    """The same study, of which only some trials are seen; what is written goes to the study.

    Args:
        study: to look at.
        chosen: of its trials.
        name: of the view, if samplers keep notes of their own in it: the study's system attributes
            are then those of the view.
    """
    view = copy.copy(study)
    view._thread_local = type(study._thread_local)()  # which keeps the trials it has seen
    view._storage = cast(BaseStorage, _View(study._storage, chosen, name))
    return view


def pareto_ranks(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each of (n, m) points: 0 on the front, 1 on the front of the rest, and so on.

    Lower is better. Non-dominated sorting (Deb et al. 2002, NSGA-II, section III A); with one
    objective, the place among the distinct values. Equal points do not dominate each other.
    """
    ranks: NDArray[np.int64] = _fast_non_domination_rank(losses)
    return ranks


class WholeLines(JournalFileBackend):
    """Optuna's journal file, in which no line stays half-written.

    A full disk, or a process that is killed over it, would leave a piece of a line, to which the
    next writer would add its own: a line in the middle that nobody can read, and with it the study.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with get_lock_file(self._lock):
            path = Path(self._file_path)
            _cut_to_whole_lines(path)
            size = path.stat().st_size
            try:
                with path.open("ab", buffering=0) as file:
                    file.write("".join(json.dumps(log) + "\n" for log in logs).encode())
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise


def _cut_to_whole_lines(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(max(0, end - _LONGEST_LINE))
        start, tail = file.tell(), file.read()
        file.truncate(start + tail.rfind(b"\n") + 1)


class _View:
    """A storage of which only some trials are seen."""

    def __init__(
        self,
        storage: BaseStorage,
        chosen: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]],
        name: str,
    ) -> None:
        self._storage, self._chosen = storage, chosen
        self._prefix = f"{name}: " if name else ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Those that are chosen of all, and then of these states."""
        chosen = self._chosen(self._storage.get_all_trials(study_id, deepcopy=False))
        found = [t for t in chosen if states is None or t.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Those of the view."""
        known = self._storage.get_study_system_attrs(study_id)
        own = {key: value for key, value in known.items() if key.startswith(self._prefix)}
        return {key.removeprefix(self._prefix): value for key, value in own.items()}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """One of the view."""
        self._storage.set_study_system_attr(study_id, f"{self._prefix}{key}", value)
