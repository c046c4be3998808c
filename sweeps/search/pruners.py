"""Pruners from `hydra/sweeper/pruner=`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.pruners import BasePruner, NopPruner

from experiments.errors import UserError
from sweeps.search.building import built
from sweeps.search.pruning import ParetoHalving

_FIRST_RUNG = 9  # of max_epochs, a ninth: two halvings by three
_WILCOXON = "WilcoxonPruner"


def build_pruner(
    config: Mapping[str, Any], *, objectives: int, max_epochs: int
) -> BasePruner | ParetoHalving | None:
    """The pruner, its resource counted in epochs.

    Returns:
        Optuna's for one objective; for several, which Optuna cannot prune, successive halving by
        Pareto rank; None where nothing is pruned.

    Raises:
        UserError: there is no such pruner, it refuses an option, or it cannot compare several
            objectives.
    """
    if any(target.endswith(_WILCOXON) for target in _targets(config)):
        raise UserError(
            "`hydra/sweeper/pruner` must compare trials epoch by epoch, but got wilcoxon, whose "
            "test is about independent problem instances, and the epochs of a training are not; "
            "choose asha, hyperband, median, patient or none"
        )
    options = _in_epochs(config, max_epochs)
    target = options["_target_"]
    if objectives > 1 and target.endswith("SuccessiveHalvingPruner"):
        return ParetoHalving(options["min_resource"], options["reduction_factor"])
    pruner = built(options, "hydra/sweeper/pruner")
    if isinstance(pruner, NopPruner):
        return None
    if not isinstance(pruner, BasePruner):
        raise UserError(f"`hydra/sweeper/pruner` must be an Optuna pruner, but got {target}")
    if objectives > 1:
        raise UserError(
            "`hydra/sweeper/pruner` must be asha or none for several objectives, but got "
            f"{target.rpartition('.')[2]}, which compares one"
        )
    return pruner


def _in_epochs(config: Mapping[str, Any], max_epochs: int) -> dict[str, Any]:
    first = max(1, math.ceil(max_epochs / _FIRST_RUNG))
    defaults = {"min_resource": first, "max_resource": max_epochs, "n_warmup_steps": first}
    options = dict(config)
    for key, value in config.items():
        if isinstance(value, Mapping):
            options[key] = _in_epochs(value, max_epochs)
        elif value is None:
            options[key] = defaults.get(key)
    return options


def _targets(config: Mapping[str, Any]) -> Iterator[str]:
    """What is built by a config, also within."""
    for key, value in config.items():
        if key == "_target_":
            yield str(value)
        elif isinstance(value, Mapping):
            yield from _targets(value)
