"""A worker: the process that asks the study for a trial, trains it, tells it, and repeats."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.pruners import BasePruner, NopPruner

from experiments.record import reopen
from experiments.record.fence import Owner, owning
from experiments.tracking.wandb import run as wandb_run
from sweeps.plan import Plan, artifacts_directory
from sweeps.search.halving import Halving
from sweeps.search.pruners import build_pruner, promoting
from sweeps.search.pruning import CountedPruner, Reporting
from sweeps.search.samplers import worker_sampler
from sweeps.storage import private
from sweeps.storage.attributes import STOP
from sweeps.storage.locks import is_certain
from sweeps.storage.opening import lock, open_storage
from sweeps.storage.retry import retry
from sweeps.study.claims import Claims
from sweeps.study.definition import load_study
from sweeps.study.execution import Job, Ports, Worker
from sweeps.study.leases import Lease
from sweeps.system import REAL, Event
from sweeps.workers.directories import give_back
from sweeps.workers.task import Task, WorkerSettings


def work(plan: Plan, task: Task, index: int, *, handle_signals: bool = True) -> None:
    """Train trials of the plan's study until there is nothing left to do, or it should stop.

    Args:
        plan: of the sweep.
        task: makes the jobs.
        index: of the worker, from 0.
        handle_signals: stop on an interrupt; where nobody else would.
    """
    os.chdir(plan.working_directory)
    wandb_run.forget_run()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = build_pruner(plan.pruner, objectives=len(plan.objectives), compare=plan.compare)
    study = retry(lambda: _join(plan))
    study.pruner = (
        CountedPruner(pruner, plan.compare) if isinstance(pruner, BasePruner) else NopPruner()
    )
    stop = f"{STOP} {plan.session}"
    lease = Lease(
        study,
        f"{plan.session}-{index}",
        lambda: private.is_set(study, stop) or REAL.is_gone(plan.command),
        command=plan.command,
    )
    ports = _ports(plan, task, index, pruner)
    claims = Claims(
        study,
        plan,
        ports.lock,
        lease,
        is_lock_certain=is_certain(plan.storage),
        promoter=promoting(pruner),
    )
    worker = Worker(
        study, claims, lease, lambda claim: plan.space.overrides(claim.values, claim.seed), ports
    )
    try:
        with _signals(lease.stopping) if handle_signals else nullcontext():
            worker.work()
    finally:
        lease.end()


def _ports(plan: Plan, task: Task, index: int, pruner: BasePruner | Halving | None) -> Ports:
    settings = WorkerSettings(
        index if plan.on_one_machine else 0,
        plan.threads,
        plan.directory,
        (plan.study_id, plan.study) if plan.study_id is not None else None,
        plan.settings.gpus_per_trial,
        pauses=promoting(pruner) is not None,
    )
    reporting = Reporting(pruner if isinstance(pruner, Halving) else None)

    def study_lock() -> AbstractContextManager[None]:
        return lock(plan.storage, plan.study, plan.directory / "lock")

    def own(directory: str, token: int, process: str) -> AbstractContextManager[None]:
        if not directory:
            return nullcontext()
        return owning(Path(directory), Owner(token, process, plan.study_id or ""))

    return Ports(
        prepare=lambda overrides, number: task.prepare(overrides, number, settings),
        give_back=lambda directory: give_back(Path(directory)),
        report=reporting.report,
        announce=partial(_announce, artifacts_directory(plan)),
        own=own,
        free_memory=_free_memory,
        lock=study_lock,
        reopen=reopen,
    )


class _Later(FileSystemArtifactStore):
    """A store whose files are copied when that is asked for, after the study knows of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._files: dict[str, str] = {}

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._files[artifact_id] = content_body.name

    def copy(self, directory: Path) -> None:
        """Copy them now."""
        directory.mkdir(parents=True, exist_ok=True)
        for artifact_id, path in self._files.items():
            shutil.copyfile(path, directory / artifact_id)


def _announce(directory: Path, trial: optuna.Trial, job: Job) -> Callable[[], None]:
    """Tell optuna-dashboard of the trial's pictures; what is returned copies them."""
    later = _Later(directory)
    for path in job.pictures():
        upload_artifact(artifact_store=later, file_path=path, study_or_trial=trial)
    return partial(later.copy, directory) if job.pictures() else lambda: None


def _join(plan: Plan) -> optuna.Study:
    """The study, with this worker's sampler."""
    storage = open_storage(plan.storage, plan.directory / "study.db")
    study = load_study(storage, plan.study, optuna.samplers.RandomSampler() if plan.grid else None)
    if not plan.grid:
        study_seed = int((plan.study_id or "0")[:8], 16)
        study.sampler = worker_sampler(plan.settings.sampler, plan.space, plan.compare, study_seed)
    return study


def _free_memory() -> None:
    """Drop what a failed trial held, which its traceback kept alive."""
    sys.last_value = sys.last_traceback = None
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _signals(stopping: Event) -> Iterator[None]:
    """The first interrupt lets the trial write a checkpoint and stop; the second stops it now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # Not by `stopping`, which a command sets as well: one interrupt after that is not two.
    interrupts = 0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
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
