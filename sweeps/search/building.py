"""Building samplers and pruners from what `hydra/sweeper/sampler=` and `pruner=` name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError

WHITELIST = (
    "optuna.samplers.*",
    "optuna.pruners.*",
    "hydra_plugins.hydra_optuna_sweeper.*",
    "sweeps.search.bands.BandPruner",
    "sweeps.search.cmaes.CautiousCmaEsSampler",
    "sweeps.search.halving.Halving",
)
"""What the config of a sampler or pruner may name."""


def built(options: Mapping[str, Any], group: str) -> Any:
    """The object that some options describe.

    Args:
        options: with `_target_`.
        group: of the config, for messages.

    Raises:
        UserError: it may not be built, or refuses an option.
    """
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
