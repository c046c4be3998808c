"""Reports of trials to their study, and what of them Optuna's pruners see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeps.contest.levels import of_level
from sweeps.storage import private
from sweeps.storage.attributes import CONFIRM, PHASE, REPORTS


class Judge(Protocol):
    """Says of a trial whether it should stop."""

    def should_prune(self, study: optuna.Study, number: int, epoch: int) -> bool:
        """Whether it should, after the validation of an epoch that it has reported."""


class CountedPruner(BasePruner):
    """Lets one of Optuna's pruners see the trials of the search, each chain of retries once.

    Optuna's own count a trial whose worker died, and its retry, as two, and confirmations as
    competitors. Where levels are compared, each has rungs of its own.

    Args:
        pruner: Optuna's, or one like them.
        compare: keys whose levels are compared.
    """

    def __init__(self, pruner: BasePruner, compare: Sequence[str] = ()) -> None:
        self.pruner, self._compare = pruner, tuple(compare)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        view = private.with_trials(study, of_level(self._compare, trial))
        return self.pruner.prune(view, trial)


class Reporting:
    """Tells a study the validation results of its trials and whether a trial should stop.

    Optuna has no reports of several objectives, so these are kept in the trial's attributes. A
    confirmation is never pruned, nor a trial for an epoch that it had reported before it was
    interrupted.

    Args:
        pruner: None for the study's own, which judges one objective.
    """

    def __init__(self, pruner: Judge | None = None) -> None:
        self._pruner = pruner
        self._current: tuple[optuna.Trial, set[int]] | None = None
        self._told: int | None = None

    def report(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        """Tell the results of a validation, and return whether the trial should stop.

        It may be repeated where it broke off: nothing counts as reported before it was judged.

        Args:
            trial: that is running.
            epoch: counted from 1.
            values: one for each objective of the study.

        Raises:
            ValueError: there is not one value for each objective.
        """
        objectives = len(trial.study.directions)
        if len(values) != objectives:
            raise ValueError(
                f"a report must have {objectives} values, one for each objective, "
                f"but got {list(values)}"
            )
        judged = self._judged_epochs(trial)
        if epoch in judged:
            return False
        tell = self._report_one if objectives == 1 else self._report_several
        wanted = tell(trial, epoch, values)
        judged.add(epoch)
        return wanted

    def _report_one(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        if epoch != self._told:  # which Optuna would take for a mistake
            trial.report(float(values[0]), epoch)
            self._told = epoch
        if private.attributes(trial).get(PHASE) == CONFIRM:
            return False
        if self._pruner is not None:
            return self._pruner.should_prune(trial.study, trial.number, epoch)
        return trial.should_prune()

    def _report_several(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        reports = private.attributes(trial).get(REPORTS, {})
        # NaN is no JSON: PostgreSQL's and JavaScript's readers refuse it.
        row = [None if math.isnan(value) else float(value) for value in values]
        trial.set_user_attr(REPORTS, {**reports, str(epoch): row})
        if self._pruner is None or private.attributes(trial).get(PHASE) == CONFIRM:
            return False
        return self._pruner.should_prune(trial.study, trial.number, epoch)

    def _judged_epochs(self, trial: optuna.Trial) -> set[int]:
        """Those of earlier workers are read once a trial."""
        if self._current is None or self._current[0] is not trial:
            frozen = private.read(trial.study, trial)
            several = map(int, frozen.user_attrs.get(REPORTS) or {})
            self._current = (trial, {*frozen.intermediate_values, *several})
            self._told = None
        return self._current[1]
