"""Samplers from `hydra/sweeper/sampler=`, each worker with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import UserError
from sweeps.search import cmaes
from sweeps.search.building import built
from sweeps.search.levels import LevelSampler
from sweeps.search.priors import with_priors
from sweeps.space.dimensions import Space
from sweeps.storage.attributes import POINT
from sweeps.storage.private import FIXED

GRID = "optuna.samplers.GridSampler"
_WHOLE = {"seed", "n_startup_trials", "n_ei_candidates"}
_SWITCHES = {"multivariate", "constant_liar", "group"}


def is_grid(sampler: Mapping[str, Any]) -> bool:
    """Whether the config names the grid, which a sweep goes through itself."""
    return sampler.get("_target_") == GRID


def worker_sampler(
    config: Mapping[str, Any], space: Space, compare: Sequence[str] = (), study_seed: int = 0
) -> BaseSampler:
    """The sampler of one worker.

    Args:
        config: `_target_` and options; a null option is the sampler's own default.
        space: that is searched.
        compare: keys whose levels are searched each for itself.
        study_seed: that the workers of a study share, for levels where the config has none.

    Raises:
        UserError: there is no such sampler, it refuses an option, or it cannot heed a
            distribution of the space.
    """
    _check(config)

    def build(seed: int | None) -> BaseSampler:
        return with_priors(_built(config, seed), space)

    seed = config.get("seed")
    # A quasi-random sequence is one for all workers, and all trials.
    is_sequence = config["_target_"].endswith("QMCSampler")
    if compare:
        shared = study_seed if seed is None else seed
        return LevelSampler(lambda own: build(shared if is_sequence else own), compare, shared)
    if seed is None or is_sequence:
        return build(seed)
    return WorkerSeed(build, seed)


class WorkerSeed(BaseSampler):
    """A sampler whose random numbers no other worker of the study has.

    Every storage gives each number of a trial to one worker only, so the numbers follow from the
    seed and the number of the first trial that this worker begins. Who begins the study has the
    sampler as the seed says, and the search of one worker repeats itself.

    Args:
        build: makes the sampler, given a seed.
        seed: that the workers share.
    """

    def __init__(self, build: Callable[[int], BaseSampler], seed: int) -> None:
        self._build, self._seed = build, seed
        self._sampler = build(seed)
        self._is_own = False

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if not self._is_own and _is_new(trial):
            self._is_own = True
            if trial.number > 0:
                entropy = np.random.SeedSequence([self._seed, trial.number])
                self._sampler = self._build(int(entropy.generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()


def _is_new(trial: FrozenTrial) -> bool:
    """Whether a worker has just begun it, rather than gone on with somebody's, and may choose."""
    return not trial.params and POINT not in trial.user_attrs and FIXED not in trial.system_attrs


def _check(config: Mapping[str, Any]) -> None:
    """Refuse what Optuna takes, but a worker would stumble over."""
    for keys, kind, rule in (
        (_WHOLE, int, "an integer of 0 or more, or null"),
        (_SWITCHES, bool, "true, false or null"),
    ):
        for key in keys & config.keys():
            value = config[key]
            if value is not None and (type(value) is not kind or not 0 <= value < 2**32):
                raise UserError(f"`hydra.sweeper.sampler.{key}` must be {rule}, but got {value!r}")


def _built(config: Mapping[str, Any], seed: int | None) -> BaseSampler:
    options = {key: value for key, value in config.items() if value is not None}
    target = options["_target_"]
    if target == cmaes.TARGET:  # which unpickles what the study holds
        options["_target_"] = "sweeps.search.cmaes.CautiousCmaEsSampler"
    if seed is not None:
        options["seed"] = seed
    sampler = built(options, "hydra/sweeper/sampler")
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"`hydra/sweeper/sampler` must be an Optuna sampler, but got {target}")
    return sampler
