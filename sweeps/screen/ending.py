"""What is said at the end of a sweep: its results, where they are, and how to go on."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import TrialState

from experiments.cli import commands
from experiments.errors import UserError
from sweeps.contest import design
from sweeps.plan import Plan, artifacts_directory
from sweeps.results.ranking import best
from sweeps.results.tables import write_results
from sweeps.screen.summary import print_lines, print_paths, print_summary
from sweeps.storage.attributes import REASON, counted
from sweeps.storage.opening import dashboard_command
from sweeps.storage.private import first_of
from sweeps.storage.retry import retry
from sweeps.study.claims import Claims
from sweeps.workers.logs import first_line

log = logging.getLogger(__name__)

_RESULTS = "optimization_results.yaml"


@dataclass(frozen=True)
class Conclusion:
    """What is made of a sweep that has ended.

    Attributes:
        paths: of files that were written, by what they are.
        answer: in sentences, the most important first.
        use: numbers of the trials of what it recommends.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    answer: Sequence[str] = ()
    use: Sequence[int] = ()


def resume_command() -> str:
    """The command as it was given, which goes on with the sweep."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:  # whose own command is no sweep
        return "the same sweeps.run(...) again"
    program = [] if Path(sys.argv[0]).suffix != ".py" else ["python"]
    return shlex.join([*program, *sys.argv])


def report(
    study: optuna.Study,
    plan: Plan,
    claims: Claims,
    conclude: Callable[[], Conclusion] | None,
) -> None:
    """Write the results and show them, the answer last.

    Args:
        study: that has ended.
        plan: of the sweep.
        claims: of the command.
        conclude: writes further files, and finds the answer.
    """
    paths = {"records": plan.directory, "results": plan.directory / _RESULTS}
    retry(claims.note_race)
    retry(lambda: write_results(paths["results"], study, plan.objectives))
    retry(lambda: print_summary(study, plan.objectives))
    found = _called(conclude, plan) if conclude is not None else Conclusion()
    retry(
        lambda: design.recommend(
            study, plan.directory, plan.design, found.use or _best(study, plan)
        )
    )
    print_paths({**paths, **found.paths})
    reason = claims.stopping.reason() or claims.stopping.no_improvement()
    if reason is not None:
        log.info("stopped: %s", reason)
    log.info("to look closer: %s", _dashboard_command(plan))
    if found.answer:
        print_lines(["", "answer:", *found.answer])


def _best(study: optuna.Study, plan: Plan) -> list[int]:
    """The trials of the best configuration, for a sweep of which nothing was concluded."""
    chosen = best(study, plan.objectives)
    numbers = () if chosen is None else chosen.trials
    return [first_of(t) for t in study.get_trials(deepcopy=False) if t.number in numbers]


def _called(conclude: Callable[[], Conclusion], plan: Plan) -> Conclusion:
    """What it returns. Whatever goes wrong there, the trials and their results stay."""
    try:
        return conclude()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        command = report_command(plan)
        why = first_line(f"{type(error).__name__}: {error}".removesuffix(": "))
        log.error("no report was written (%s); to write it: %s", why, command)
        log.debug("no report was written", exc_info=True)
        return Conclusion()


def report_command(plan: Plan) -> str:
    """The command that writes the report of a sweep, and says its answer, so far."""
    return commands.module("analysis.report", str(plan.directory))


def _dashboard_command(plan: Plan) -> str:
    pictures = shlex.quote(str(artifacts_directory(plan)))
    return f"{dashboard_command(plan.storage)} --artifact-dir {pictures}"


def refuse_failure(study: optuna.Study, claims: Claims) -> None:
    """End with an error where the sweep has no answer.

    Raises:
        UserError: no trial was completed, or more than `sweep.max_failure_rate` of them failed.
    """
    trials = counted(study.get_trials(deepcopy=False))
    failed = [t for t in trials if t.state == TrialState.FAIL]
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    reason = claims.stopping.reason()
    if failed and not ended:
        first = failed[0]
        why = first_line(str(first.user_attrs.get(REASON, "no reason")))
        raise UserError(
            f"every trial failed; trial {first.number}: {why}; once that is mended, the same "
            "command with sweep.retry_failed=true trains them again"
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
