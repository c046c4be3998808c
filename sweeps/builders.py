"""Samplers and pruners from `hydra/sweeper/sampler=` and `hydra/sweeper/pruner=`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler

from experiments.errors import UserError
from sweeps import evolution
from sweeps.pruning import ParetoHalving

WHITELIST = (
    "optuna.samplers.*",
    "optuna.pruners.*",
    "hydra_plugins.hydra_optuna_sweeper.*",
    "sweeps.bands.BandPruner",
    "sweeps.evolution.CautiousCmaEsSampler",
)
"""What the config of a sampler or pruner may name."""

GRID = "optuna.samplers.GridSampler"
_FIRST_RUNG = 9  # of max_epochs, a ninth: two halvings by three


def is_grid(sampler: Mapping[str, Any]) -> bool:
    """Whether the config names the grid, which `sweeps.study.claims` goes through itself."""
    return sampler.get("_target_") == GRID


def build_sampler(config: Mapping[str, Any], *, seed: int | None, workers: int) -> BaseSampler:
    """The sampler of one worker.

    Args:
        config: `_target_` and options; a null option is the sampler's own default.
        seed: of this worker's random numbers, where the config has none of its own.
        workers: how many there are. With several, TPE takes the trials of the others that still
            run into account (`constant_liar`), or they would all try the same.

    Raises:
        UserError: there is no such sampler, or it refuses an option.
    """
    options = {key: value for key, value in config.items() if value is not None}
    target = options["_target_"]
    if target == evolution.TARGET:  # which unpickles what the study holds
        options["_target_"] = "sweeps.evolution.CautiousCmaEsSampler"
    if target.endswith(".TPESampler") and workers > 1:
        options["constant_liar"] = options.get("constant_liar") or True
    if seed is not None and "seed" in config:
        options["seed"] = seed
    sampler = _instantiate(options, "hydra/sweeper/sampler")
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"`hydra/sweeper/sampler` must be an Optuna sampler, but got {target}")
    return sampler


def worker_seed(config: Mapping[str, Any], worker: int, trials: int) -> int | None:
    """The seed of a worker's sampler.

    The first worker of a new study has the seed of the config, as it is. Others have their own,
    and so has a worker that joins later: with the same seed it would propose again what has been
    tried. Quasi-random sequences are one sequence for all.
    """
    seed = config.get("seed")
    if seed is None or (worker == 0 and trials == 0) or config["_target_"].endswith("QMCSampler"):
        return seed
    import numpy as np

    return int(np.random.SeedSequence([seed, worker, trials]).generate_state(1)[0])


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
    options = _in_epochs(config, max_epochs)
    target = options["_target_"]
    if objectives > 1 and target.endswith("SuccessiveHalvingPruner"):
        return ParetoHalving(options["min_resource"], options["reduction_factor"])
    pruner = _instantiate(options, "hydra/sweeper/pruner")
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


def _instantiate(options: Mapping[str, Any], group: str) -> Any:
    from hydra.utils import instantiate
    from optuna.exceptions import ExperimentalWarning

    try:
        with warnings.catch_warnings():
            # Users choose these by name; that Optuna may change them is for its release notes.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return instantiate(dict(options), _execution_whitelist_=list(WHITELIST))
    except Exception as error:
        if "whitelist" in str(error):
            raise UserError(
                f"`{group}` must be of optuna.samplers, optuna.pruners or vaesweep, but got "
                f"{options['_target_']!r}, which could run any code"
            ) from None
        cause = error.__cause__ or error
        raise UserError(f"`{group}` does not work: {cause}") from error
