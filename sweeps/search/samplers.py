"""Samplers from `hydra/sweeper/sampler=`, each worker with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import UserError
from sweeps.contest.levels import of_level
from sweeps.search import cmaes
from sweeps.search.building import built
from sweeps.search.forecasts import ended_for
from sweeps.space.dimensions import Space
from sweeps.space.priors import Prior
from sweeps.storage import private
from sweeps.storage.attributes import counted, is_confirmation, level_of

GRID = "optuna.samplers.GridSampler"
_WHOLE = {"seed", "n_startup_trials", "n_ei_candidates"}
_SWITCHES = {"multivariate", "constant_liar", "group"}


def is_grid(sampler: Mapping[str, Any]) -> bool:
    """Whether the config names the grid, which a sweep goes through itself."""
    return sampler.get("_target_") == GRID


def worker_sampler(
    config: Mapping[str, Any], space: Space, compare: Sequence[str] = (), study_seed: int = 0
) -> LevelSampler:
    """The sampler of one worker.

    Every storage gives each number of a trial to one worker only, and what is drawn for a trial
    follows from the seed and the place of the trial in its level. So no two workers draw the same,
    and the search of one worker repeats itself.

    Args:
        config: `_target_` and options; a null option is the sampler's own default.
        space: that is searched.
        compare: keys whose levels are searched each for itself.
        study_seed: that the workers of a study share, where the config has none.

    Raises:
        UserError: there is no such sampler, it refuses an option, or it cannot heed a
            distribution of the space.
    """
    _check(config)

    def build(seed: int | None) -> BaseSampler:
        return with_priors(_built(config, seed), space)

    seed = config.get("seed")
    shared = study_seed if seed is None else seed
    build(shared)  # so that a mistake is told here
    # A quasi-random sequence is one for all workers, and all trials.
    is_sequence = config["_target_"].endswith("QMCSampler")
    # A Gaussian process learns from completed trials only.
    is_shared = config["_target_"].endswith("GPSampler")
    return LevelSampler(
        lambda own: build(shared if is_sequence else own),
        compare,
        shared,
        ended_for if is_shared else of_level,
        is_paired=not is_shared,
    )


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
        within = options.get("independent_sampler")
        if within is not None:
            options["independent_sampler"] = {**within, "seed": seed}
    sampler = built(options, "hydra/sweeper/sampler")
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"`hydra/sweeper/sampler` must be an Optuna sampler, but got {target}")
    return sampler


Seen = Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]


class LevelSampler(BaseSampler):
    """A sampler for each level, which sees trials of the search only, and each chain of them once.

    Args:
        build: makes one, given a seed.
        keys: that are compared; without any, all trials are of one level.
        seed: that all workers and levels share.
        see: what the sampler of a trial sees of all trials, given `keys` and the trial.
        is_paired: the n-th trials of all levels draw the same random numbers.
    """

    def __init__(
        self,
        build: Callable[[int], BaseSampler],
        keys: Sequence[str],
        seed: int,
        see: Callable[[Sequence[str], FrozenTrial], Seen] = of_level,
        *,
        is_paired: bool = True,
    ) -> None:
        self._build, self._keys, self._seed, self._see = build, tuple(keys), seed, see
        self._is_paired = is_paired
        self._current: tuple[int, BaseSampler] | None = None

    def _of(self, study: optuna.Study, trial: FrozenTrial) -> tuple[BaseSampler, optuna.Study]:
        seen = self._see(self._keys, trial)
        view = private.with_trials(study, seen, level_of(trial, self._keys))
        if self._current is None or self._current[0] != trial.number:
            # Where a trial stands in its level, and not its number, decides what is drawn.
            level = level_of(trial, self._keys)
            others = counted(study.get_trials(deepcopy=False)[: trial.number])
            place = sum(
                level_of(other, self._keys) == level and not is_confirmation(other)
                for other in others
            )
            entropy = np.random.SeedSequence([self._seed, place, *self._own(trial)])
            self._current = trial.number, self._build(int(entropy.generate_state(1)[0]))
        return self._current[1], view

    def _own(self, trial: FrozenTrial) -> Sequence[int]:
        """What makes the random numbers those of the trial's level."""
        level = "" if self._is_paired else level_of(trial, self._keys)
        return [*level.encode()]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        sampler, view = self._of(study, trial)
        sampler.before_trial(view, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        sampler, view = self._of(study, trial)
        space = sampler.infer_relative_search_space(view, trial)
        return {key: found for key, found in space.items() if key not in self._keys}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        sampler, view = self._of(study, trial)
        return sampler.sample_relative(view, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        sampler, view = self._of(study, trial)
        return sampler.sample_independent(view, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        sampler, view = self._of(study, trial)
        sampler.after_trial(view, trial, state, values)

    def reseed_rng(self) -> None:
        if self._current is not None:
            self._current[1].reseed_rng()


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
