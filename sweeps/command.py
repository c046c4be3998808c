"""The command of a sweep: from the overrides to the results, with workers and a view between."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import optuna

from experiments.errors import UserError
from experiments.machine.signals import EXIT_STATUS, INTERRUPTED
from experiments.record import discard, flat
from experiments.record.identity import relevant
from experiments.record.membership import owner
from sweeps.bounds import ANSWER, DEATHS_IN_A_ROW
from sweeps.contest import design
from sweeps.plan import Plan
from sweeps.planning import opened, plan_of, study_lock
from sweeps.results import tables
from sweeps.screen import continuing
from sweeps.screen.ending import (
    Conclusion,
    refuse_failure,
    report,
    report_command,
    resume_command,
)
from sweeps.screen.forecast import forecast_shown
from sweeps.screen.view import View
from sweeps.search.pruners import build_pruner, promoting
from sweeps.settings import read
from sweeps.space.composing import Composer
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.space.jobs import settled, times_resolved
from sweeps.storage.answers import refused
from sweeps.storage.opening import file_of, open_storage
from sweeps.storage.retry import is_away, retry
from sweeps.study.claims import Claims
from sweeps.study.definition import load_study
from sweeps.study.supervision import Supervisor, progress_of, run_rounds
from sweeps.wandb import file as wandb_file
from sweeps.workers import launch
from sweeps.workers.directories import check_owner, remove_paused
from sweeps.workers.launchers import launcher_name
from sweeps.workers.logs import say_more
from sweeps.workers.task import Task, TrainingTask
from sweeps.workers.trying import try_data, try_parts

if TYPE_CHECKING:
    import pandas
    from hydra.types import HydraContext
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

AtEnd = Callable[["Sweep"], Conclusion]
"""Called with a sweep that has ended."""


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
            self._table.append(tables.table(self.study, self.objectives))
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

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _log_to_terminal()
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
    plan, values, composed, options = plan_of(arguments, settings, config, composer, below)
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
                try_data(plan, task, composed)
                try_parts(composed, processes)
        with _storage_told(plan):
            study, plan = retry(partial(opened, storage, plan, flat(relevant(values)), options))
        OmegaConf.save(config, plan.directory / "multirun.yaml")
        design.write(plan.directory, plan.design)
    sweep = Sweep(study, plan.objectives, plan.directory, values)
    with _storage_told(plan):
        return _run(plan, task, sweep, processes, config, context, at_end)


@contextmanager
def _storage_told(plan: Plan) -> Iterator[None]:
    """Say of a storage that is away for too long what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not is_away(error):
            raise
        # Not chained: the cause's own message may hold the password.
        then = "; what was trained is kept: give the command again"
        raise refused(error, plan.storage, then) from None


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


def _run(
    plan: Plan,
    task: Task,
    sweep: Sweep,
    processes: Any,
    config: DictConfig,
    context: HydraContext,
    at_end: AtEnd | None,
) -> Sweep:
    """Launch workers, round after round, until there is nothing left to do.

    One round is enough unless workers die.

    Raises:
        UserError: no trial succeeded, too many failed, or the workers cannot live.
        SystemExit: it was interrupted.
    """
    _log_to_terminal()
    say_more(plan.verbose)
    pruner = build_pruner(plan.pruner, objectives=len(plan.objectives), compare=plan.compare)
    lock = partial(study_lock, plan)
    claims = Claims(sweep.study, plan, lock, promoter=promoting(pruner))
    supervisor = Supervisor(_own_connection(plan), plan, lock)
    is_work_left = retry(claims.is_work_left)
    if is_work_left or not _is_stopped(claims):
        _say(continuing.notice(sweep.study, plan, is_work_left=is_work_left))
    forecast = forecast_shown(plan, task, processes) if is_work_left else nullcontext()
    killed, gets_on = False, True
    try:
        with supervisor, _interruptible(supervisor), _view(plan), forecast:
            gets_on = run_rounds(
                claims,
                lambda: _launch(plan, task, supervisor, processes, config, context),
                lambda: progress_of(sweep.study),
                lambda: supervisor.interrupted is not None,
                _say,
            )
    except KeyboardInterrupt:
        killed = True
    interrupted = killed or supervisor.interrupted is not None
    if interrupted:
        supervisor.requeue_killed()
    if not gets_on:
        raise UserError(
            f"workers must get on with trials, but in {DEATHS_IN_A_ROW} rounds they did "
            f"not; see their logs in {plan.directory / 'workers'}"
        )
    has_begun = bool(retry(partial(sweep.study.get_trials, deepcopy=False), window=ANSWER))
    more = partial(at_end, sweep) if at_end and has_begun and not interrupted else None
    report(sweep.study, plan, claims, more)
    if interrupted and at_end and has_begun:
        log.info("for the answer so far: %s", report_command(plan))
    if interrupted or claims.is_work_left():
        log.info("to go on: %s", times_resolved(resume_command(), config))
    elif not _is_stopped(claims):
        remove_paused(plan.directory, sweep.study.get_trials(deepcopy=False))
    if interrupted:
        is_ended = supervisor.interrupted == signal.SIGTERM
        raise SystemExit(EXIT_STATUS if is_ended else INTERRUPTED)
    refuse_failure(sweep.study, claims)
    return sweep


@contextmanager
def _interruptible(supervisor: Supervisor) -> Iterator[None]:
    """The first interrupt asks the workers to stop; the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if supervisor.interrupted is not None:
            supervisor.end()
            raise KeyboardInterrupt
        supervisor.interrupted = signal.Signals(number)
        log.info(
            "stopping: running trials end their epoch and write a checkpoint; again to stop at once"
        )

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str | None) -> None:
    if text is not None:
        log.info("%s", text)


def _is_stopped(claims: Claims) -> bool:
    """Whether a limit other than the budget ended the search, which is said at the end."""
    return bool(claims.stopping.reason() or claims.stopping.no_improvement())


def _own_connection(plan: Plan) -> optuna.Study:
    """The study through a storage object that no other thread uses."""
    return load_study(open_storage(plan.storage, plan.directory / "study.db"), plan.study)


def _view(plan: Plan) -> View:
    study = _own_connection(plan)
    budget, grid = plan.settings.n_trials, None
    if plan.grid:
        grid = Grid(plan.space)
        budget = grid.size
    return View(lambda: study, plan.objectives, budget, plan.deadline, grid=grid)


def _launch(
    plan: Plan,
    task: Task,
    supervisor: Supervisor,
    processes: Any,
    config: DictConfig,
    context: HydraContext,
) -> None:
    """One round of workers."""
    if plan.workers == 0:
        from sweeps.workers.worker import work

        work(plan, task, 0, handle_signals=False)
        return
    if processes is None:
        launch.through_hydra(plan, task, config, context)
        return

    def died(index: int) -> bool:
        supervisor.worker_died(launch.worker_name(plan, index))
        return supervisor.interrupted is None

    workers = launch.pool(processes, plan, task)
    try:
        workers.run(
            plan.workers,
            died=died,
            ended_trials=supervisor.ended_trials,
            describe=partial(launch.describe_death, plan),
        )
    finally:
        workers.kill()


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in node.items()
    }


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to what is the standard error now: a live view puts its own in place of it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _log_to_terminal() -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Terminal()])
