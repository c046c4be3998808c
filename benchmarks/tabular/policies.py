"""Ways to search, which `benchmarks.search` compares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.search.forecasts import epochs_of
from sweeps.storage.attributes import budgeted, level_of

LEVELS = ("loss",)
_NONE = {"_target_": "optuna.pruners.NopPruner"}
_HALVING = "sweeps.search.halving.Halving"


@dataclass(frozen=True)
class Policy:
    """How a search chooses trials, and which it ends early.

    Attributes:
        sampler: config of `hydra/sweeper/sampler`.
        pruner: config of `hydra/sweeper/pruner`, with open resources.
        compare: keys whose levels are searched each for itself.
        rungs: keys whose levels are pruned each for itself.
        first: whether the first trial of each level is the usual configuration.
        is_stock: Hydra's own Optuna sweeper instead: batches of trials, each to its end.
    """

    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    compare: tuple[str, ...] = LEVELS
    rungs: tuple[str, ...] = LEVELS
    first: bool = True
    is_stock: bool = False


def _sampler(name: str, **options: Any) -> dict[str, Any]:
    return {"_target_": f"optuna.samplers.{name}Sampler", **options}


def _pruner(name: str, **options: Any) -> dict[str, Any]:
    return {"_target_": f"optuna.pruners.{name}Pruner", **options}


def _asha(first: int | None) -> dict[str, Any]:
    return _pruner("SuccessiveHalving", min_resource=first, reduction_factor=3)


def _halving(first: int | None = None, factor: int = 3) -> dict[str, Any]:
    return {"_target_": _HALVING, "min_resource": first, "reduction_factor": factor}


_TPE = _sampler("TPE")  # multivariate with a constant liar
_PLUGINS_TPE = _sampler("TPE", multivariate=False, group=False)  # as hydra-optuna-sweeper builds it
_GP = _sampler("GP", n_startup_trials=4)
_HYPERBAND = _pruner("Hyperband", min_resource=3, max_resource=27, reduction_factor=3)
_MEDIAN = _pruner("Median", n_startup_trials=5, n_warmup_steps=3)

DEFAULT = "levels: gp, halving (default)"
UNPRUNED = "levels: gp"
"""What the default is without its pruner."""

POLICIES = {
    "stock": Policy(_PLUGINS_TPE, is_stock=True),
    "random": Policy(_sampler("Random"), compare=(), rungs=(), first=False),
    "tpe, univariate": Policy(_PLUGINS_TPE, compare=(), rungs=(), first=False),
    "tpe, without a liar": Policy(
        _sampler("TPE", constant_liar=False), compare=(), rungs=(), first=False
    ),
    "tpe": Policy(_TPE, compare=(), rungs=(), first=False),
    "gp": Policy(_GP, compare=(), rungs=(), first=False),
    "levels: tpe": Policy(_TPE, first=False),
    "levels: tpe, asha 3 (before)": Policy(_TPE, _asha(3), first=False),
    "levels: tpe, asha 1": Policy(_TPE, _asha(1), first=False),
    "levels: tpe, asha 2": Policy(_TPE, _asha(2), first=False),
    "levels: tpe, asha 4": Policy(_TPE, _asha(4), first=False),
    "levels: tpe, asha 3, one rung for all": Policy(_TPE, _asha(3), rungs=(), first=False),
    "levels: tpe, median": Policy(_TPE, _MEDIAN, first=False),
    "levels: tpe, hyperband": Policy(_TPE, _HYPERBAND, first=False),
    "levels: tpe, promotion by rank 4": Policy(_TPE, {"_target_": "rank", "first": 4}, first=False),
    "levels: tpe, halving": Policy(_TPE, _halving(), first=False),
    UNPRUNED: Policy(_GP),
    "levels: gp of 8 at random, halving": Policy(_sampler("GP", n_startup_trials=8), _halving()),
    "levels: gp, config not first": Policy(_GP, first=False),
    "levels: gp, asha 6": Policy(_GP, _asha(6)),
    "levels: gp, promotion by rank 6": Policy(_GP, {"_target_": "rank", "first": 6}),
    "levels: gp, halving from 3": Policy(_GP, _halving(3)),
    "levels: gp, halving from 4": Policy(_GP, _halving(4)),
    "levels: gp, halving, config not first": Policy(_GP, _halving(), first=False),
    DEFAULT: Policy(_GP, _halving()),
    "levels: gp, halving from 8": Policy(_GP, _halving(8)),
    "levels: gp, halving, a half": Policy(_GP, _halving(factor=2)),
    "levels: gp, halving, a quarter": Policy(_GP, _halving(factor=4)),
}
"""By name; the first rung is after so many epochs of 27, or after 6."""


class RankHalving:
    """Promotion by the rank at a rung, as ASHA was published; for one objective to maximise.

    Args:
        first: epochs of the first rung.
        factor: one in how many goes on.
        compare: keys whose levels have rungs of their own.
    """

    def __init__(self, first: int, factor: int = 3, compare: Sequence[str] = ()) -> None:
        self._first, self._factor, self._compare = first, factor, tuple(compare)

    def should_prune(self, study: optuna.Study, number: int, epoch: int) -> bool:
        """Whether it is not among the best at the rung of this epoch."""
        rungs = [self._first * self._factor**n for n in range(5)]
        if epoch not in rungs:
            return False
        trials = study.get_trials(deepcopy=False)
        there = self._at(trials, level_of(trials[number], self._compare), epoch)
        return _place(there, number) >= len(there) // self._factor

    def promotable(self, study: optuna.Study, left: Collection[str]) -> FrozenTrial | None:
        """The best paused trial of the highest rung that has a place."""
        trials = study.get_trials(deepcopy=False)
        paused = [t for t in budgeted(trials) if t.state == TrialState.PRUNED]
        at_work = {
            level_of(t, self._compare) for t in budgeted(trials) if not t.state.is_finished()
        }
        done = {
            level_of(t, self._compare) for t in budgeted(trials) if t.state == TrialState.COMPLETE
        }
        for trial in sorted(paused, key=lambda t: (-epochs_of(t)[-1], -_value(t))):
            level = level_of(trial, self._compare)
            there = self._at(trials, level, epochs_of(trial)[-1])
            is_over = level not in left and level not in at_work and level not in done
            if _place(there, trial.number) < max(is_over, len(there) // self._factor):
                return trial
        return None

    def _at(self, trials: Sequence[FrozenTrial], level: str, epoch: int) -> dict[int, float]:
        return {
            t.number: t.intermediate_values[epoch]
            for t in budgeted(trials)
            if level_of(t, self._compare) == level and epoch in t.intermediate_values
        }


def _value(trial: FrozenTrial) -> float:
    return trial.intermediate_values[epochs_of(trial)[-1]]


def _place(values: Mapping[int, float], number: int) -> int:
    return int(np.sum(np.array(list(values.values())) > values[number]))
