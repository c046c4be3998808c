"""From the overrides of a command to a plan that workers can follow, each mistake found first."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from experiments import config as configs
from experiments.errors import UserError
from experiments.record import flat
from experiments.record.identity import relevant
from sweeps.contest.design import agreed, design
from sweeps.contest.levels import answered_keys, compared_keys, levels_of
from sweeps.plan import Plan, is_grid_search
from sweeps.search import memory
from sweeps.search.pruners import build_pruner, in_epochs
from sweeps.search.samplers import is_grid, worker_sampler
from sweeps.settings import Settings
from sweeps.space.composing import Composer
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.space.jobs import hydra_overrides
from sweeps.space.points import Values
from sweeps.storage.attributes import DEADLINE, IDENTITY, name_of
from sweeps.storage.locks import excludes_all
from sweeps.storage.opening import lock, normalised, redacted
from sweeps.study import recovery
from sweeps.study.definition import Options, open_study, study_id
from sweeps.study.leases import Watch, holder
from sweeps.workers import launchers
from sweeps.workers.directories import check_owner, take
from sweeps.workers.resources import (
    check_gpus,
    processes_per_trial,
    tell_how_to_share,
    threads_per_worker,
    usual_workers,
    visible_gpus,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from optuna.storages import BaseStorage


log = logging.getLogger(__name__)

_DEFAULT_TRIALS = 20  # of a search without end, where `n_trials` is not given
_MANY = 1000  # trials, more than any machine has workers
_PRUNER_KEY = "hydra/sweeper/pruner="


def study_lock(plan: Plan) -> AbstractContextManager[None]:
    """A context in which nobody else claims trials of the study."""
    return lock(plan.storage, plan.study, plan.directory / "lock")


def plan_of(
    arguments: Sequence[str],
    settings: Settings,
    config: DictConfig,
    composer: Composer,
    below: Space,
) -> tuple[Plan, dict[str, Any], list[dict[str, Any]], Options]:
    """The plan of a command, each mistake in it found.

    Args:
        arguments: overrides of the command line.
        settings: of the sweep.
        config: Hydra's composed config of the sweep.
        composer: of the configs of trials.
        below: what a file of the sweep searches beneath the command line.

    Returns:
        The plan, a trial's values without the search, some with it, and its groups' options.

    Raises:
        UserError: something is wrong with the sweep.
    """
    space = composer.space(settings.params, arguments, settings.conditions, below)
    grid = is_grid_search(space, settings.n_trials, asked_for=is_grid(settings.sampler))
    values = composer.container([f.text for f in space.fixed if not f.conditions])
    base = flat(relevant(values))
    objectives = tuple(configs.objectives(base))
    composed, options = composer.check(space)
    launchers.check(config)
    on_one_machine = launchers.is_on_this_machine(config)
    compare = compared_keys(space, settings.compare)
    if not grid:
        settings, compare = _budgeted(settings, space, compare)
    elif settings.warm_start:
        raise UserError(
            "`sweep.warm_start` must be left out of a grid, all of whose points are run, but got "
            f"{', '.join(map(redacted, settings.warm_start))}; hydra.sweeper.n_trials=N below the "
            "number of points, or an interval, makes a search"
        )
    workers = settings.n_jobs
    if workers is None:
        workers = 1
        if on_one_machine:
            workers = _usual_workers(settings, values, space, grid=grid)
    each = processes_per_trial(settings.gpus_per_trial, values["trainer"]["devices"])
    if on_one_machine and settings.gpus_per_trial > 1 and not visible_gpus():
        raise UserError(
            "`sweep.gpus_per_trial` must be 1 on a machine without GPUs, but got "
            f"{settings.gpus_per_trial}; several processes on the CPU are trainer.devices={each}"
        )
    if on_one_machine and values["trainer"]["device"] == "auto":
        check_gpus(workers, visible_gpus(), settings.trials_per_gpu, each)
        tell_how_to_share(workers, visible_gpus())
    directory = Path(str(config.hydra.sweep.dir)).absolute()
    plan = Plan(
        settings=settings,
        storage=normalised(settings.storage, directory / "study.db"),
        directory=directory,
        session=uuid.uuid4().hex[:8],
        space=space,
        grid=grid,
        objectives=objectives,
        pruner=in_epochs(
            _pruner(settings, config, grid),
            max_epochs=base["max_epochs"],
            warmup_epochs=max(each["kl"]["warmup_epochs"] for each in [values, *composed]),
        ),
        workers=workers,
        threads=threads_per_worker(workers if on_one_machine else 1),
        on_one_machine=on_one_machine,
        command=holder("command"),
        working_directory=Path.cwd(),
        verbose=_verbose(config),
        compare=compare,
        first=_first(settings, space, compare, base, objectives),
        design=design(
            settings, space, answered_keys(space, compare, grid=grid), compare, grid=grid
        ),
    )
    # Tried here, so that a mistake is told before any trial.
    if not grid:
        worker_sampler(settings.sampler, space, compare)
    build_pruner(plan.pruner, objectives=len(objectives), compare=compare)
    return plan, values, composed, options


def _first(
    settings: Settings,
    space: Space,
    compare: Sequence[str],
    base: Mapping[str, Any],
    objectives: Sequence[str],
) -> dict[str, list[Values]]:
    """The values of the first trials of each level.

    Raises:
        UserError: a past sweep cannot be read, or has nothing to tell.
    """
    past = [memory.ends(source, objectives) for source in settings.warm_start]
    in_all = [d for d in space.dimensions if not (d.conditions or d.prior)]
    found = {
        name_of(level): memory.first_values(past, base, in_all, level)
        for level in levels_of(space, compare)
    }
    for level, values in found.items() if past else ():
        shown = ", then ".join(" ".join(f"{k}={v}" for k, v in one.items()) for one in values)
        log.info("%s begins with %s", level or "the search", shown or "what the sampler chooses")
    return found


def _budgeted(
    settings: Settings, space: Space, compare: tuple[str, ...]
) -> tuple[Settings, tuple[str, ...]]:
    """The settings of a search with as many trials for each level, and the keys it compares.

    Raises:
        UserError: there are fewer trials than levels that the user wants compared.
    """
    wanted = settings.n_trials
    levels = math.prod(d.size for d in space.dimensions if d.key in compare)
    keys = ", ".join(compare)
    if wanted is not None and wanted < levels:
        if settings.compare is not None:
            raise UserError(
                f"`hydra.sweeper.n_trials` must be {levels} or more, one trial for each level of "
                f"{keys} that is compared, but got {wanted}; sweep.compare=[] makes one search "
                "over all"
            )
        log.info(
            "%d trials cannot compare %d levels of %s: one search over all", wanted, levels, keys
        )
        return settings, ()
    each = max(1, (wanted or _DEFAULT_TRIALS) // levels)
    if wanted is not None and each * levels != wanted:
        log.info(
            "%d levels of %s are compared, with %d trials each: %d of hydra.sweeper.n_trials=%d",
            levels, keys, each, each * levels, wanted,
        )  # fmt: skip
    return replace(settings, n_trials=each * levels), compare


def _usual_workers(
    settings: Settings, values: Mapping[str, Any], space: Space, *, grid: bool
) -> int:
    """Where `n_jobs` is left open; the order of a grid means nothing, that of a search does."""
    return usual_workers(
        values["trainer"],
        trials=min(Grid(space).size, _MANY) if grid else settings.n_trials,
        repeatable=not grid and settings.sampler.get("seed") is not None,
        trials_per_gpu=settings.trials_per_gpu,
        gpus_per_trial=processes_per_trial(settings.gpus_per_trial, values["trainer"]["devices"]),
    )


def _pruner(settings: Settings, config: DictConfig, grid: bool) -> dict[str, Any]:
    """A grid is there to compare all its points, so only a pruner that was asked for prunes it."""
    named = any(text.startswith(_PRUNER_KEY) for text in hydra_overrides(config))
    if grid and not named:
        return {"_target_": "optuna.pruners.NopPruner"}
    return dict(settings.pruner)


def opened(
    storage: BaseStorage,
    plan: Plan,
    base: Mapping[str, Any],
    options: Options,
) -> tuple[optuna.Study, Plan]:
    """The study, with what an earlier command left behind put in order, and the plan that fits it.

    Args:
        storage: of the study.
        plan: of the command.
        base: values of a trial without the search, flat.
        options: of the groups that are searched.

    Raises:
        UserError: the study, or the sweep's directory, is another sweep's.
    """
    with study_lock(plan):
        known: optuna.Study | None = None
        if plan.study in optuna.study.get_all_study_names(storage):
            known = optuna.load_study(study_name=plan.study, storage=storage)
        _check_owner(plan, known)
        if known is not None:
            running = known.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            recovery.take_over(known, Watch(known).look(running), plan.settings.max_retries)
        study, space = open_study(
            storage,
            plan.study,
            objectives=plan.objectives,
            space=plan.space,
            base=base,
            options=options,
            grid=plan.grid,
            is_locked=excludes_all(plan.storage),
        )
        id_ = study_id(study)
        take(plan.directory, id_, plan.study, redacted(plan.storage))
        if plan.settings.retry_failed:
            recovery.retry_failed(study)
        deadline = _deadline(study, plan.settings.timeout, time.time())
        found = agreed(study, plan.design, plan.settings, space)
    plan = replace(plan, space=space, deadline=deadline, study_id=id_, design=found)
    return study, plan


def _check_owner(plan: Plan, study: optuna.Study | None) -> None:
    """Refuse a directory whose records are another study's."""
    trials = study.get_trials(deepcopy=False) if study is not None else ()
    check_owner(
        plan.directory,
        study_id(study) if study is not None else None,
        plan.study,
        {t.user_attrs[IDENTITY] for t in trials if IDENTITY in t.user_attrs},
    )


def _verbose(config: DictConfig) -> bool | str | list[str]:
    verbose = config.hydra.verbose
    return verbose if isinstance(verbose, bool | str) else list(verbose)


def _deadline(study: optuna.Study, timeout: float | None, now: float) -> float | None:
    """That of the commands which are at work on the study already, else this one's own.

    Where a machine's clock differs so much that theirs has passed, or is further away than the
    timeout, this one's own counts.
    """
    if timeout is None:
        return None
    shared = study.user_attrs.get(DEADLINE)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if running and shared is not None and now < shared <= now + timeout:
        return float(shared)
    study.set_user_attr(DEADLINE, now + timeout)
    return now + timeout
