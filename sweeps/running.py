"""Running a plan: workers until there is nothing left to do, a view meanwhile, the results."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import optuna
from optuna.trial import TrialState

from experiments import commands
from experiments.errors import UserError
from sweeps import continuing, launch, results
from sweeps.bounds import ANSWER, DEATHS_IN_A_ROW
from sweeps.foresight import foreseeing
from sweeps.formatting import first_line
from sweeps.interrupts import interruptible
from sweeps.jobs import times_resolved
from sweeps.logs import say_more
from sweeps.plan import Plan, artifacts_directory
from sweeps.retry import is_away, retry
from sweeps.space.grid import Grid
from sweeps.storages import dashboard_command, open_storage
from sweeps.study import recovery
from sweeps.study.attributes import REASON, counted
from sweeps.study.claims import Claims
from sweeps.study.command import Supervisor, progress_of, run_rounds
from sweeps.study.definition import load_study
from sweeps.summary import print_paths, print_summary
from sweeps.sweep import Sweep, study_lock
from sweeps.task import Task
from sweeps.view import View

if TYPE_CHECKING:
    from hydra.types import HydraContext
    from omegaconf import DictConfig

    from sweeps.sweeper import AtEnd

log = logging.getLogger(__name__)

_RESULTS = "optimization_results.yaml"


def run(
    plan: Plan,
    task: Task,
    sweep: Sweep,
    processes: Any,
    config: DictConfig,
    context: HydraContext,
    at_end: AtEnd | None = None,
) -> Sweep:
    """Launch workers, round after round, until there is nothing left to do.

    One round is enough unless workers die.

    Raises:
        UserError: no trial succeeded, too many failed, or the workers cannot live.
        SystemExit: it was interrupted.
    """
    _log_to_terminal()
    say_more(plan.verbose)
    claims = Claims(sweep.study, plan, partial(study_lock, plan))
    supervisor = Supervisor(_own_connection(plan), plan, partial(study_lock, plan))
    is_work_left = claims.is_work_left()
    if is_work_left or not _is_stopped(claims):
        _say(continuing.notice(sweep.study, plan, is_work_left=is_work_left))
    foreseen = foreseeing(plan, task, processes) if is_work_left else nullcontext()
    killed, gets_on = False, True
    try:
        with supervisor, interruptible(supervisor), _view(plan), foreseen:
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
        _requeue_killed(sweep.study, plan)
    if not gets_on:
        raise UserError(
            f"workers must get on with trials, but in {DEATHS_IN_A_ROW} rounds they did "
            f"not; see their logs in {plan.directory / 'workers'}"
        )
    has_begun = bool(sweep.study.get_trials(deepcopy=False))
    _report(sweep, plan, claims, at_end if has_begun and not interrupted else None)
    if interrupted or claims.is_work_left():
        log.info("to go on: %s", times_resolved(resume_command(), config))
    if interrupted:
        raise SystemExit(143 if supervisor.interrupted == signal.SIGTERM else 130)
    _refuse_failure(sweep.study, claims)
    return sweep


def _requeue_killed(study: optuna.Study, plan: Plan) -> None:
    """What the workers could not do, as far as the storage is there: the next command does it."""

    def requeue() -> None:
        with study_lock(plan):
            recovery.requeue_killed(study, plan.session)

    try:
        retry(requeue, window=ANSWER)
    except Exception as error:
        if not is_away(error):
            raise
        log.warning("trials were not requeued, since the storage is away: %s", error)


def _say(text: str | None) -> None:
    if text is not None:
        log.info("%s", text)


def _is_stopped(claims: Claims) -> bool:
    """Whether a limit other than the budget ended the search, which is said at the end."""
    return claims.stop_reason() is not None or claims.no_improvement_reason() is not None


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to what is the standard error now: a live view puts its own in place of it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _log_to_terminal() -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Terminal()])


def resume_command() -> str:
    """The command as it was given, which goes on with the sweep."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:  # whose own command is no sweep
        return "the same sweeps.run(...) again"
    program = [] if Path(sys.argv[0]).suffix != ".py" else ["python"]
    return shlex.join([*program, *sys.argv])


def _own_connection(plan: Plan) -> optuna.Study:
    """The study through a storage object that no other thread uses."""
    return load_study(open_storage(plan.storage, plan.directory / "study.db"), plan.study)


def _view(plan: Plan) -> View:
    study = _own_connection(plan)
    budget, grid = plan.limits.n_trials, None
    if plan.grid:
        grid = Grid(plan.space)
        budget = grid.size
    return View(lambda: study, plan.objectives, budget, plan.limits.deadline, grid=grid)


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
        from sweeps.worker import work

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


def _report(sweep: Sweep, plan: Plan, claims: Claims, at_end: AtEnd | None) -> None:
    paths = {"records": plan.directory, "results": plan.directory / _RESULTS}
    claims.note_race()
    results.write_results(paths["results"], sweep.study, plan.objectives)
    print_summary(sweep.study, plan.objectives)
    print_paths({**paths, **(_call(at_end, sweep) if at_end is not None else {})})
    reason = claims.stop_reason() or claims.no_improvement_reason()
    if reason is not None:
        log.info("stopped: %s", reason)
    log.info("to look closer: %s", _dashboard_command(plan))


def _call(at_end: AtEnd, sweep: Sweep) -> Mapping[str, Path]:
    """What it returns. Whatever goes wrong there, the trials and their results stay."""
    try:
        return at_end(sweep)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        command = commands.module("analysis.report", str(sweep.directory))
        why = first_line(f"{type(error).__name__}: {error}".removesuffix(": "))
        log.error("no report was written (%s); to write it: %s", why, command)
        log.debug("no report was written", exc_info=True)
        return {}


def _dashboard_command(plan: Plan) -> str:
    pictures = shlex.quote(str(artifacts_directory(plan)))
    return f"{dashboard_command(plan.storage)} --artifact-dir {pictures}"


def _refuse_failure(study: optuna.Study, claims: Claims) -> None:
    """End with an error where the sweep has no answer.

    Raises:
        UserError: no trial was completed, or more than `sweep.max_failure_rate` of them failed.
    """
    trials = counted(study.get_trials(deepcopy=False))
    failed = [t for t in trials if t.state == TrialState.FAIL]
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    reason = claims.stop_reason()
    if failed and not ended:
        first = failed[0]
        raise UserError(
            f"every trial failed; trial {first.number}: {first.user_attrs.get(REASON, 'no reason')}"
        )
    if reason is not None and "failed" in reason:
        first = failed[0]
        raise UserError(
            f"the sweep stopped because {reason}; trial {first.number}: "
            f"{first.user_attrs.get(REASON, 'no reason')}"
        )
    if not any(trial.state == TrialState.COMPLETE for trial in ended):
        pruned = f"; {len(ended)} trials were pruned" if ended else ""
        raise UserError(
            "a sweep must complete a trial to have an answer, but none was completed "
            f"({reason or 'there was nothing to train'}{pruned}); raise hydra.sweeper.timeout or "
            "hydra.sweeper.n_trials, or choose another pruner"
        )
