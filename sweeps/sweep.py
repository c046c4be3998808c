"""From the overrides of a command to a plan that workers can follow, each mistake found first."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from experiments import config as configs
from experiments.identity import relevant
from experiments.membership import owner
from experiments.record import discard, flat
from sweeps import launch, launchers, results, wandb_file
from sweeps.directories import check_owner, take
from sweeps.jobs import hydra_overrides, settled
from sweeps.launchers import launcher_name
from sweeps.locks import excludes_all
from sweeps.plan import DEFAULT_TRIALS, Limits, Plan, is_grid_search
from sweeps.resources import (
    check_gpus,
    tell_how_to_share,
    threads_per_worker,
    usual_workers,
    visible_gpus,
)
from sweeps.search.pruners import build_pruner
from sweeps.search.samplers import is_grid, worker_sampler
from sweeps.settings import Settings, read
from sweeps.space.composing import Composer
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.storages import file_of, lock, normalised, open_storage, redacted
from sweeps.study import recovery
from sweeps.study.attributes import DEADLINE, IDENTITY
from sweeps.study.definition import Options, open_study, study_id
from sweeps.study.leases import Watch, holder
from sweeps.task import Task, TrainingTask
from sweeps.trying import try_data, try_parts

if TYPE_CHECKING:
    import pandas
    from hydra.types import HydraContext
    from omegaconf import DictConfig
    from optuna.storages import BaseStorage

    from sweeps.sweeper import AtEnd

_MANY = 1000  # trials, more than any machine has workers
_PRUNER_KEY = "hydra/sweeper/pruner="


@dataclass(frozen=True)
class Sweep:
    """What a sweep gives back.

    Attributes:
        study: Optuna's.
        objectives: names of its metrics.
        directory: of the trials' records and the results.
        config: plain values of a trial without the search.
    """

    study: optuna.Study
    objectives: tuple[str, ...]
    directory: Path
    config: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _table: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def table(self) -> pandas.DataFrame:
        """A row for each trial: parameters, seed, objectives, metrics, state, directory."""
        if not self._table:
            self._table.append(results.table(self.study, self.objectives))
        return self._table[0]


def run_sweep(
    arguments: Sequence[str],
    sweeper: Mapping[str, Any],
    config: DictConfig,
    context: HydraContext,
    *,
    task: Task | None = None,
    at_end: AtEnd | None = None,
) -> Sweep:
    """Search the space that the overrides describe.

    Args:
        arguments: overrides of the command line.
        sweeper: the values of `hydra.sweeper`.
        config: Hydra's composed config of the sweep.
        context: Hydra's.
        task: makes the jobs; None trains VAEs.
        at_end: see `sweeps.sweeper.register`.

    Raises:
        UserError: something is wrong with the sweep, or all of it failed.
        SystemExit: it was interrupted.
    """
    from omegaconf import OmegaConf

    from sweeps.running import run

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    below = Space(())
    if wandb_file.is_named(config):
        arguments, config, below = wandb_file.applied(config, context.config_loader)
        sweeper = {k: v for k, v in config.hydra.sweeper.items() if k != "_target_"}
    settings = read(_plain(sweeper), _plain(config.sweep))
    processes = None
    if settings.n_jobs != 0 and launcher_name(config) == "BasicLauncher":
        # Loads libraries while this process goes on.
        processes = launch.prepare_processes(preload=task is None)
    settled(config)
    composer = Composer(context.config_loader, config)
    plan, values, composed, options = _plan(arguments, settings, config, composer, below)
    file = file_of(plan.storage)
    if file is not None and not file.exists():
        check_owner(plan.directory, None, plan.study, ())
    with _directory_of(plan):
        # Before the images, which may take their time: a server that is away is told at once.
        storage = open_storage(plan.storage, plan.directory / "study.db")
        with study_lock(plan):  # and so is one whose file system has no locks
            pass
        if task is None:
            task = TrainingTask(context.config_loader, config, context.execution_whitelist)
            if plan.on_one_machine:
                try_data(plan, task)
                try_parts(composed, processes)
        study, plan = _open(storage, plan, settings, flat(relevant(values)), options)
        OmegaConf.save(config, plan.directory / "multirun.yaml")
    sweep = Sweep(study, plan.objectives, plan.directory, values)
    return run(plan, task, sweep, processes, config, context, at_end)


def study_lock(plan: Plan) -> AbstractContextManager[None]:
    """A context in which nobody else claims trials of the study."""
    return lock(plan.storage, plan.study, plan.directory / "lock")


def _plan(
    arguments: Sequence[str],
    settings: Settings,
    config: DictConfig,
    composer: Composer,
    below: Space,
) -> tuple[Plan, dict[str, Any], list[dict[str, Any]], Options]:
    """The plan, a trial's values without the search, some with it, and its groups' options."""
    space = composer.space(settings.params, arguments, settings.conditions, below)
    grid = is_grid_search(space, settings.n_trials, asked_for=is_grid(settings.sampler))
    values = composer.container([f.text for f in space.fixed if not f.conditions])
    base = flat(relevant(values))
    objectives = tuple(configs.objectives(base))
    composed, options = composer.check(space)
    launchers.check(config)
    on_one_machine = launchers.is_on_this_machine(config)
    limits = _limits(settings, grid)
    workers = settings.n_jobs
    if workers is None:
        workers = 1
        if on_one_machine:
            n_trials = limits.n_trials
            workers = _usual_workers(settings, values, space, grid=grid, n_trials=n_trials)
    if on_one_machine and values["trainer"]["device"] == "auto":
        check_gpus(workers, visible_gpus(), settings.trials_per_gpu)
        tell_how_to_share(workers, visible_gpus())
    directory = Path(str(config.hydra.sweep.dir)).absolute()
    plan = Plan(
        study=settings.study_name,
        storage=normalised(settings.storage, directory / "study.db"),
        directory=directory,
        session=uuid.uuid4().hex[:8],
        space=space,
        grid=grid,
        objectives=objectives,
        sampler=settings.sampler,
        pruner=_pruner(settings, config, grid),
        max_epochs=base["max_epochs"],
        limits=limits,
        workers=workers,
        threads=threads_per_worker(workers if on_one_machine else 1),
        on_one_machine=on_one_machine,
        command=holder("command"),
        working_directory=Path.cwd(),
        verbose=_verbose(config),
    )
    # Tried here, so that a mistake is told before any trial.
    if not grid:
        worker_sampler(settings.sampler, space)
    build_pruner(plan.pruner, objectives=len(objectives), max_epochs=plan.max_epochs)
    return plan, values, composed, options


def _usual_workers(
    settings: Settings, values: Mapping[str, Any], space: Space, *, grid: bool, n_trials: int | None
) -> int:
    """Where `n_jobs` is left open; the order of a grid means nothing, that of a search does."""
    return usual_workers(
        values["trainer"],
        trials=min(Grid(space).size, _MANY) if grid else n_trials,
        repeatable=not grid and settings.sampler.get("seed") is not None,
        trials_per_gpu=settings.trials_per_gpu,
    )


def _pruner(settings: Settings, config: DictConfig, grid: bool) -> dict[str, Any]:
    """A grid is there to compare all its cells, so only a pruner that was asked for prunes it."""
    named = any(text.startswith(_PRUNER_KEY) for text in hydra_overrides(config))
    if grid and not named:
        return {"_target_": "optuna.pruners.NopPruner"}
    return dict(settings.pruner)


def _limits(settings: Settings, grid: bool) -> Limits:
    n_trials = settings.n_trials
    if n_trials is None and not grid:
        n_trials = DEFAULT_TRIALS
    return Limits(
        n_trials=n_trials,
        stop_after_no_improvement=settings.stop_after_no_improvement,
        max_failure_rate=settings.max_failure_rate,
        max_retries=settings.max_retries,
        confirm=settings.confirm,
        confirm_seeds=settings.confirm_seeds,
    )


def _open(
    storage: BaseStorage,
    plan: Plan,
    settings: Settings,
    base: Mapping[str, Any],
    options: Options,
) -> tuple[optuna.Study, Plan]:
    """The study, with what an earlier command left behind put in order."""
    with study_lock(plan):
        known: optuna.Study | None = None
        if plan.study in optuna.study.get_all_study_names(storage):
            known = optuna.load_study(study_name=plan.study, storage=storage)
        _check_owner(plan, known)
        if known is not None:
            running = known.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            recovery.take_over(known, Watch(known).look(running), plan.limits.max_retries)
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
        if settings.retry_failed:
            recovery.retry_failed(study)
        limits = replace(plan.limits, deadline=_deadline(study, settings.timeout))
    return study, replace(plan, space=space, limits=limits, study_id=id_)


def _check_owner(plan: Plan, study: optuna.Study | None) -> None:
    """Refuse a directory whose records are another study's."""
    trials = study.get_trials(deepcopy=False) if study is not None else ()
    check_owner(
        plan.directory,
        study_id(study) if study is not None else None,
        plan.study,
        {t.user_attrs[IDENTITY] for t in trials if IDENTITY in t.user_attrs},
    )


@contextmanager
def _directory_of(plan: Plan) -> Iterator[None]:
    """The sweep's directory, which does not stay if it is new and the sweep cannot begin."""
    plan.directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        plan.directory.mkdir()
        is_ours = True
    except FileExistsError:
        if not plan.directory.is_dir():
            raise
        is_ours = False
    try:
        yield
    except BaseException:
        if is_ours and owner(plan.directory) is None:  # nobody else began there meanwhile
            discard(plan.directory, also={path.name for path in plan.directory.iterdir()})
        raise


def _verbose(config: DictConfig) -> bool | str | list[str]:
    verbose = config.hydra.verbose
    return verbose if isinstance(verbose, bool | str) else list(verbose)


def _deadline(study: optuna.Study, timeout: float | None) -> float | None:
    """That of the commands which are at work on the study already, else this one's own."""
    if timeout is None:
        return None
    deadline = time.time() + timeout
    shared = study.user_attrs.get(DEADLINE)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if running and shared is not None and shared > time.time():
        return float(shared)
    study.set_user_attr(DEADLINE, deadline)
    return deadline


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in node.items()
    }
