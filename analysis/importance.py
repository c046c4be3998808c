"""How much each searched parameter matters, from the table of trials alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis.runs import Runs

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

_CHOICES = 8  # more different numbers than that are an interval
_LOGARITHMIC = 8.0  # an interval whose ends are that many times apart was searched by ratio


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

    names = list(metrics or runs.objectives or ("psnr",))
    trials = runs.trials[runs.trials["status"] == "completed"]
    columns = {name: column_of(trials, name) for name in names}
    if "phase" in trials:
        trials = trials[trials["phase"] != "confirm"]
    searched = [p for p in runs.searched if p in trials and trials[p].notna().all()]
    distributions = {p: _distribution(trials[p]) for p in searched if trials[p].nunique() > 1}
    found: dict[str, dict[str, float]] = {}
    for name, column in columns.items():
        if column is None or not distributions:
            continue
        study = _silent_study("maximize" if maximized(name) else "minimize")
        rows = trials.assign(value=finite(trials[column])).dropna(subset=["value"])
        for _, row in rows.iterrows():
            params = {p: _plain(row[p]) for p in distributions}
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=distributions, value=row["value"]
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


def _distribution(values: pd.Series) -> BaseDistribution:
    """An interval for many numbers, else the choices that were taken."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    taken = sorted({_plain(value) for value in values}, key=lambda value: (str(type(value)), value))
    numbers = all(isinstance(value, int | float) for value in taken)
    if not numbers or len(taken) <= _CHOICES:
        return CategoricalDistribution(taken)
    low, high = float(taken[0]), float(taken[-1])
    return FloatDistribution(low, high, log=low > 0 and high / low > _LOGARITHMIC)


def _plain(value: Any) -> str | bool | int | float:
    """As Optuna takes it."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
