"""Stopping trials early: Optuna's pruners for one objective, Pareto halving for several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeps.results.ranking import as_losses
from sweeps.search.levels import of_level
from sweeps.storage import private
from sweeps.storage.attributes import CONFIRM, PHASE, REPORTS

Reports = Mapping[str, Sequence[float | None]]


class ParetoHalving:
    """Asynchronous successive halving by Pareto rank, for several objectives.

    ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2)
    with Pareto ranks in place of the one loss. Rungs lie at `min_resource * reduction_factor**k`
    epochs. A trial that reaches a rung is compared with what all others had when they reached it;
    it goes on if fewer than one in `reduction_factor` lie on better fronts, and always if none
    dominates it. As in Optuna's SuccessiveHalvingPruner a trial is judged once at each rung.

    Args:
        min_resource: epochs of the first rung.
        reduction_factor: one in how many goes on.
        compare: keys whose levels are compared, so that each has rungs of its own.

    Raises:
        ValueError: `min_resource` is below 1 or `reduction_factor` below 2.
    """

    def __init__(
        self, min_resource: int, reduction_factor: int = 3, compare: Sequence[str] = ()
    ) -> None:
        if min_resource < 1:
            raise ValueError(f"`min_resource` must be 1 epoch or more, but got {min_resource}")
        if reduction_factor < 2:
            raise ValueError(f"`reduction_factor` must be 2 or more, but got {reduction_factor}")
        self._min_resource = min_resource
        self._reduction_factor = reduction_factor
        self._compare = tuple(compare)

    def should_prune(
        self,
        study: optuna.Study,
        trial: int | FrozenTrial | optuna.Trial,
        epoch: int,
        values: Sequence[float],
    ) -> bool:
        """Whether a trial should stop after the validation of `epoch`.

        Args:
            study: with several objectives (one works as well).
            trial: the trial, or its number.
            epoch: counted from 1.
            values: one for each objective; NaN is worst.

        Raises:
            ValueError: there is not one value for each objective.
        """
        rung = self._rung(epoch)
        if rung is None:
            return False
        if not isinstance(trial, FrozenTrial):
            number = trial if isinstance(trial, int) else trial.number
            trial = study.get_trials(deepcopy=False)[number]
        if _first_report(trial.user_attrs.get(REPORTS, {}), range(rung.start, epoch)) is not None:
            return False
        rivals = of_level(self._compare, trial)(study.get_trials(deepcopy=False))
        others = _reports_of_others(rivals, trial.number, rung)
        ranks = private.pareto_ranks(as_losses([values, *others], study.directions))
        better = int(np.sum(ranks < ranks[0]))
        return better >= max(1, len(ranks) // self._reduction_factor)

    def _rung(self, epoch: int) -> range | None:
        """The epochs from the highest rung that is reached to before the next."""
        if epoch < self._min_resource:
            return None
        start = self._min_resource
        while start * self._reduction_factor <= epoch:
            start *= self._reduction_factor
        return range(start, start * self._reduction_factor)


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

    One objective goes to the study's own pruner. Optuna has no pruning for several objectives, so
    their results are kept in the trial's attributes, for `pruner`. A confirmation is never
    pruned, nor a trial for an epoch that it had reported before it was interrupted.

    Args:
        pruner: for several objectives; None prunes none.
    """

    def __init__(self, pruner: ParetoHalving | None = None) -> None:
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
        return private.attributes(trial).get(PHASE) != CONFIRM and trial.should_prune()

    def _report_several(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        reports = private.attributes(trial).get(REPORTS, {})
        # NaN is no JSON: PostgreSQL's and JavaScript's readers refuse it.
        row = [None if math.isnan(value) else float(value) for value in values]
        trial.set_user_attr(REPORTS, {**reports, str(epoch): row})
        if self._pruner is None or private.attributes(trial).get(PHASE) == CONFIRM:
            return False
        return self._pruner.should_prune(trial.study, trial, epoch, values)

    def _judged_epochs(self, trial: optuna.Trial) -> set[int]:
        """Those of earlier workers are read once a trial."""
        if self._current is None or self._current[0] is not trial:
            frozen = private.read(trial.study, trial)
            several = map(int, frozen.user_attrs.get(REPORTS) or {})
            self._current = (trial, {*frozen.intermediate_values, *several})
            self._told = None
        return self._current[1]


def _first_report(reports: Reports, epochs: range) -> Sequence[float | None] | None:
    reached = [int(epoch) for epoch in reports if int(epoch) in epochs]
    return reports[str(min(reached))] if reached else None


def _reports_of_others(
    trials: Sequence[FrozenTrial], number: int, rung: range
) -> list[Sequence[float | None]]:
    """What each other trial of the search had when it reached the rung."""
    found = []
    for trial in trials:
        if trial.number == number:
            continue
        report = _first_report(trial.user_attrs.get(REPORTS, {}), rung)
        if report is not None:
            found.append(report)
    return found
