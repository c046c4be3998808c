"""Pruners from `hydra/sweeper/pruner=`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.pruners import BasePruner, NopPruner

from experiments.errors import UserError
from sweeps.search.building import built
from sweeps.search.halving import Halving

HALVING = "sweeps.search.halving.Halving"
_FIRST_RUNG = 5  # of max_epochs; earlier, ranks say little (benchmarks/README.md)
_WILCOXON = "WilcoxonPruner"


def build_pruner(
    config: Mapping[str, Any], *, objectives: int, compare: Sequence[str] = ()
) -> BasePruner | Halving | None:
    """The pruner of a config that `in_epochs` has completed.

    Args:
        config: of the pruner.
        objectives: how many the study has.
        compare: keys whose levels are compared, so that each has rungs of its own.

    Returns:
        Ours, or one of Optuna's, which compare one objective; None where nothing is pruned.

    Raises:
        UserError: there is no such pruner, it refuses an option, or it cannot compare several
            objectives.
    """
    if any(target.endswith(_WILCOXON) for target in _targets(config)):
        raise UserError(
            "`hydra/sweeper/pruner` must compare trials epoch by epoch, but got wilcoxon, whose "
            "test is about independent problem instances, and the epochs of a training are not; "
            "choose halving, asha, hyperband, median, patient or none"
        )
    target = config["_target_"]
    if target == HALVING:
        halving: Halving = built({**config, "compare": list(compare)}, "hydra/sweeper/pruner")
        return halving
    pruner = built(config, "hydra/sweeper/pruner")
    if isinstance(pruner, NopPruner):
        return None
    if not isinstance(pruner, BasePruner):
        raise UserError(f"`hydra/sweeper/pruner` must be an Optuna pruner, but got {target}")
    if objectives > 1:
        raise UserError(
            "`hydra/sweeper/pruner` must be halving or none for several objectives, but got "
            f"{target.rpartition('.')[2]}, which compares one"
        )
    return pruner


def promoting(pruner: BasePruner | Halving | None) -> Halving | None:
    """The pruner, if what it prunes may go on later."""
    return pruner if isinstance(pruner, Halving) else None


def in_epochs(
    config: Mapping[str, Any], *, max_epochs: int, warmup_epochs: float
) -> dict[str, Any]:
    """A pruner's config with what it leaves open: its resource, counted in epochs.

    The first rung is a fifth of the training or, where that is later, the first epoch at which
    all trials have warmed up. Until then they report nothing, and what a trial reports first would
    count for the rungs before as well: trials with a long warm-up would be compared there, epochs
    older, with those that have none.

    Args:
        config: of the pruner; within, others that it uses.
        max_epochs: of a trial.
        warmup_epochs: the longest `kl.warmup_epochs` of any trial.

    Raises:
        UserError: it asks for an earlier first rung than that.
    """
    warm = math.ceil(warmup_epochs)
    first = max(1, warm, math.ceil(max_epochs / _FIRST_RUNG))
    defaults = {"min_resource": first, "max_resource": max_epochs, "n_warmup_steps": first}
    options = dict(config)
    for key, value in config.items():
        if isinstance(value, Mapping):
            options[key] = in_epochs(value, max_epochs=max_epochs, warmup_epochs=warmup_epochs)
        elif value is None:
            options[key] = defaults.get(key)
        elif key == "min_resource" and isinstance(value, int) and value < warm:
            raise UserError(
                f"`hydra.sweeper.pruner.min_resource` must be {warm} or more, since trials are not "
                f"compared while the KL's weight warms up (`kl.warmup_epochs`), but got {value}"
            )
    return options


def _targets(config: Mapping[str, Any]) -> Iterator[str]:
    """What is built by a config, also within."""
    for key, value in config.items():
        if key == "_target_":
            yield str(value)
        elif isinstance(value, Mapping):
            yield from _targets(value)
