"""A worker: asks the study for a trial, trains it, tells the result, and repeats."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import TrialState

from experiments import tracking
from experiments.errors import Interrupted, Pruned
from sweeps.attributes import (
    DIRECTORY,
    EPOCHS,
    IDENTITY,
    OVERRIDES,
    REASON,
    SAME_AS,
    SEED,
    STOP,
    SUMMARY,
)
from sweeps.claims import Claim, Claims
from sweeps.directories import give_back
from sweeps.leases import Lease, is_gone
from sweeps.patience import patiently
from sweeps.plan import Plan, artifacts_directory
from sweeps.recovery import let_wait
from sweeps.search.pruners import build_pruner
from sweeps.search.pruning import ParetoHalving, Reporting
from sweeps.search.samplers import worker_sampler
from sweeps.storages import lock, open_storage
from sweeps.study import load_study
from sweeps.task import Job, Task, WorkerSettings

log = logging.getLogger(__name__)

_REASON_CHARACTERS = 1000


def work(plan: Plan, task: Task, index: int, *, handle_signals: bool = True) -> None:
    """Train trials of the plan's study until there is nothing left to do, or it should stop.

    Args:
        plan: of the sweep.
        task: makes the jobs.
        index: of the worker, from 0.
        handle_signals: stop on an interrupt; where nobody else would.
    """
    os.chdir(plan.working_directory)
    tracking.forget_run()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = build_pruner(plan.pruner, objectives=len(plan.objectives), max_epochs=plan.max_epochs)
    study = _join(plan)
    study.pruner = pruner if isinstance(pruner, BasePruner) else NopPruner()
    stop = f"{STOP} {plan.session}"
    lease = Lease(
        study,
        f"{plan.session}-{index}",
        lambda: bool(study.user_attrs.get(stop)) or is_gone(plan.command),
    )
    artifacts = artifacts_directory(plan)
    artifacts.mkdir(parents=True, exist_ok=True)
    worker = _Worker(
        study,
        lease,
        Reporting(pruner if isinstance(pruner, ParetoHalving) else None),
        task,
        WorkerSettings(
            index if plan.on_one_machine else 0,
            plan.threads,
            plan.directory,
            (plan.study_id, plan.study) if plan.study_id is not None else None,
        ),
        FileSystemArtifactStore(artifacts),
    )
    claims = Claims(
        study,
        plan,
        lambda: lock(plan.storage, plan.study, plan.directory / "lock"),
        lease.stopping.is_set,
    )
    try:
        with _signals(lease.stopping) if handle_signals else nullcontext():
            while (claim := patiently(claims.next)) is not None:
                overrides = plan.space.overrides(claim.values, claim.seed)
                log.debug("trial %d: %s", claim.trial.number, " ".join(overrides))
                worker.train(claim, overrides, claims)
    finally:
        lease.end()


class _TakenOver(Interrupted):
    """Another worker has the trial, since this one gave no sign of life for too long."""


class _Worker:
    def __init__(
        self,
        study: optuna.Study,
        lease: Lease,
        reporting: Reporting,
        task: Task,
        settings: WorkerSettings,
        artifacts: FileSystemArtifactStore,
    ) -> None:
        self._study, self._lease, self._reporting = study, lease, reporting
        self._artifacts = artifacts
        self._task, self._settings = task, settings

    def train(self, claim: Claim, overrides: list[str], claims: Claims) -> None:
        """From a claim to its end in the study, whatever happens."""
        trial = claim.trial
        patiently(lambda: self._lease.take(trial))
        job: Job | None = None
        try:
            job = self._task.prepare(overrides, claim.number, self._settings)
            patiently(partial(self._describe, trial, job, overrides))
            twin = claims.tally.twin(job.identity)
            if twin is not None:
                patiently(partial(self._copy, trial, twin))
                give_back(Path(job.directory))
                return
            values = job.run(partial(self._report, trial), self._lease.stopping.is_set)
        except _TakenOver:
            self._lease.drop()
            log.warning("trial %d was taken over by another worker", trial.number)
        except Pruned as pruned:
            self._end(trial, job, TrialState.PRUNED, reason=str(pruned))
        except (Interrupted, KeyboardInterrupt, SystemExit):
            self._lease.stopping.set()
            patiently(partial(self._put_back, trial))
        except Exception as error:
            log.exception("trial %d failed", trial.number)
            name = "" if type(error).__name__ == "TrialError" else f"{type(error).__name__}: "
            self._end(trial, job, TrialState.FAIL, reason=f"{name}{error}")
            _free_memory()
        else:
            self._end(trial, job, TrialState.COMPLETE, values)

    def _report(self, trial: optuna.Trial, epoch: int, values: Sequence[float]) -> bool:
        try:
            return patiently(lambda: self._reporting.report(trial, epoch, values))
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise _TakenOver("another worker goes on with it, as this one was silent") from error

    def _describe(self, trial: optuna.Trial, job: Job, overrides: list[str]) -> None:
        for key, value in (
            (OVERRIDES, overrides),
            (EPOCHS, job.epochs),
            (SEED, job.seed),
            (DIRECTORY, job.directory),
            (IDENTITY, job.identity),
        ):
            if trial.user_attrs.get(key) != value:
                trial.set_user_attr(key, value)

    def _copy(self, trial: optuna.Trial, number: int) -> None:
        """End a trial as its twin ended, without training it again."""
        twin = self._study.get_trials(deepcopy=False)[number]
        self._lease.drop()
        trial.set_user_attr(SAME_AS, number)
        for key in (SUMMARY, DIRECTORY, REASON):
            if key in twin.user_attrs:
                trial.set_user_attr(key, twin.user_attrs[key])
        complete = twin.state == TrialState.COMPLETE
        self._study.tell(trial, twin.values if complete else None, state=twin.state)

    def _end(
        self,
        trial: optuna.Trial,
        job: Job | None,
        state: TrialState,
        values: tuple[float, ...] | None = None,
        reason: str | None = None,
    ) -> None:
        self._lease.drop()
        summary = job.summary() if job is not None else None

        def tell() -> None:
            if self._study._storage.get_trial(trial._trial_id).state.is_finished():
                return  # we told it, but the answer was lost; or another worker took it over
            if summary is not None:
                trial.set_user_attr(SUMMARY, summary)
            if job is not None and state == TrialState.COMPLETE:
                self._show(trial, job)
            if reason is not None:
                trial.set_user_attr(REASON, reason[:_REASON_CHARACTERS])
            self._study.tell(trial, values, state=state)

        patiently(tell)
        log.debug("trial %d ended: %s %s", trial.number, state.name, values or reason or "")

    def _show(self, trial: optuna.Trial, job: Job) -> None:
        """Give optuna-dashboard the trial's pictures."""
        for path in job.pictures():
            upload_artifact(artifact_store=self._artifacts, file_path=path, study_or_trial=trial)

    def _put_back(self, trial: optuna.Trial) -> None:
        """Let another worker, or this command given again, go on with the trial."""
        self._lease.drop()
        let_wait(self._study, trial._trial_id)


def _join(plan: Plan) -> optuna.Study:
    """The study, with this worker's sampler."""
    storage = open_storage(plan.storage, plan.directory / "study.db")
    study = load_study(storage, plan.study)
    if not plan.grid:
        study.sampler = worker_sampler(plan.sampler, plan.space)
    return study


def _free_memory() -> None:
    """Drop what a failed trial held, which its traceback kept alive."""
    sys.last_value = sys.last_traceback = None
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """The first interrupt lets the trial write a checkpoint and stop; the second stops it now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    signals = [signal.SIGINT, signal.SIGTERM]
    if "SUBMITIT_EXECUTOR" in os.environ:  # its sign that the job's time is nearly over
        name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
        signals.append(signal.Signals[f"SIG{name}"])
    before = {s: signal.signal(s, interrupt) for s in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
