"""Random search over distributions that Optuna has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from experiments.errors import UserError
from sweeps.space.dimensions import Space
from sweeps.space.priors import Prior


class PriorSampler(RandomSampler):
    """Draws each parameter that has a prior from it, and the others as a random sampler does.

    Args:
        sampler: whose random numbers are used.
        priors: by the parameters' names.
    """

    def __init__(self, sampler: RandomSampler, priors: Mapping[str, Prior]) -> None:
        super().__init__()
        self._rng = sampler._rng
        self._priors = priors

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if param_name not in self._priors:
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._priors[param_name].quantile(self._rng.rng.random_sample())


def with_priors(sampler: BaseSampler, space: Space) -> BaseSampler:
    """The sampler, or one that heeds the priors of the space if there are any.

    Raises:
        UserError: there are, but the sampler is not the random one, which alone can heed them.
    """
    priors = {d.key: d.prior for d in space.dimensions if d.prior is not None}
    if not priors:
        return sampler
    if not isinstance(sampler, RandomSampler):
        key, prior = next(iter(priors.items()))
        raise UserError(
            f"`hydra/sweeper/sampler` must be random where `{key}` is drawn from {prior.name}, "
            f"but got {type(sampler).__name__}; choose that, or another distribution"
        )
    return PriorSampler(sampler, priors)
