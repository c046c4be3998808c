"""Which trials are better by the objectives, and which parameters matter for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis import labels
from analysis.runs import CONFIRM, Runs
from decisions import mean_places

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

_CHOICES = 8  # more different numbers than that are an interval
_LOGARITHMIC = 8.0  # an interval whose ends are that many times apart was searched by ratio


def merit(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.Series:
    """How good each trial is on the validation images, more is better; NaN where it is unknown.

    It is the objective; of several that the table has, the mean place, as the sweep has it.
    """
    known = [name for name in objectives if f"val/{name}" in trials.columns]
    found = pd.Series(np.nan, index=trials.index)
    if not known:
        return found
    gains = pd.DataFrame(
        {n: labels.sign(n) * pd.to_numeric(trials[f"val/{n}"], errors="coerce") for n in known}
    )
    finite = np.isfinite(gains).all(axis=1)
    gains = gains[finite]
    found[finite] = gains[known[0]] if len(known) == 1 else -mean_places(-gains.to_numpy())
    return found


def best(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.Series | None:
    """The best completed trial; None where none has a value."""
    values = merit(trials[trials["status"] == "completed"], objectives).dropna()
    return None if values.empty else trials.loc[values.idxmax()]


def parameter_importance(runs: Runs, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """The importance of each parameter (rows) for each metric (columns), most first.

    As `sweeps.results.importance` computes it (PED-ANOVA), of any metric and of trials from any
    source. Each column sums to 1. Confirmations are left out, and so are parameters that some
    trials lack.

    Args:
        runs: completed trials count.
        metrics: of the validation split; none for the objectives.

    Returns:
        Without rows where fewer than 4 trials were completed or than 2 parameters varied.

    Raises:
        ValueError: there is no such metric.
    """
    import optuna

    from analysis.figures.points import column_of, finite, maximized
    from sweeps.results.importance import importances

    trials = runs.trials[(runs.trials["status"] == "completed") & (runs.trials["phase"] != CONFIRM)]
    searched = [p for p in runs.searched if p in trials and trials[p].notna().all()]
    taken = {p: _plain(trials[p]) for p in searched if trials[p].nunique() > 1}
    distributions = {name: _distribution(values) for name, values in taken.items()}
    found: dict[str, dict[str, float]] = {}
    for name in metrics or runs.objectives or (runs.objective,):
        column = column_of(runs.trials, name)
        if column is None or not distributions:
            continue
        study = _silent_study("maximize" if maximized(name) else "minimize")
        for i, value in enumerate(finite(trials[column])):
            if math.isfinite(value):
                params = {p: values[i] for p, values in taken.items()}
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params, distributions=distributions, value=value
                    )
                )
        found |= importances(study, [name])
    table = pd.DataFrame(found)
    return table.loc[table.mean(axis=1).sort_values(ascending=False).index]


def _silent_study(direction: Literal["maximize", "minimize"]) -> Study:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction=direction)
    finally:
        optuna.logging.set_verbosity(before)


def _plain(values: pd.Series) -> list[Any]:
    """As Optuna takes them: numbers, and texts of all else."""
    return [v if isinstance(v, bool | int | float) else str(v) for v in values.tolist()]


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """An interval for many numbers, else the choices that were taken."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    taken = sorted(set(values), key=lambda value: (str(type(value)), value))
    if len(taken) <= _CHOICES or not all(isinstance(value, int | float) for value in taken):
        return CategoricalDistribution(taken)
    low, high = float(min(taken)), float(max(taken))
    return FloatDistribution(low, high, log=low > 0 and high / low > _LOGARITHMIC)
