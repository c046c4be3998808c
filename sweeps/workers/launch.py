"""Starting workers: as processes of ours, or as jobs of any Hydra launcher."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.cli.grammar import literal
from experiments.errors import UserError, exit_status, is_disk_full
from experiments.machine.cores import cores
from experiments.machine.parent import COMMAND
from experiments.record.files import takes_files
from losses import trust  # noqa: F401  # read when a worker starts, before its config counts
from sweeps.plan import Plan
from sweeps.space.jobs import escaped
from sweeps.storage.answers import refused
from sweeps.storage.retry import is_away
from sweeps.study.leases import holder
from sweeps.study.supervision import Pool
from sweeps.system import REAL, is_stopped
from sweeps.workers import launchers
from sweeps.workers.logs import first_line, say_more
from sweeps.workers.task import Task

if TYPE_CHECKING:
    from hydra.types import HydraContext
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
_LOG_TAIL = 20  # lines
_LOOK_SECONDS = 0.2

T = TypeVar("T")


def prepare_processes(*, preload: bool) -> ForkServerContext | SpawnContext:
    """Begin to load the libraries that workers need, in a process from which they fork.

    So they are loaded once for all workers, while this process does something else.

    Args:
        preload: whether the workers train, and need them.
    """
    make_importable()
    if sys.platform != "linux":  # where a fork after the libraries are loaded is not safe
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweeps.workers.preload"] if preload else [])
    os.environ[COMMAND] = str(os.getpid())
    forkserver.ensure_running()
    return context


def make_importable() -> None:
    """Let processes that are started from here, also on other machines, import our packages."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])


def pool(context: ForkServerContext | SpawnContext, plan: Plan, task: Task) -> Pool:
    """The workers of a command on this machine.

    Args:
        context: of `prepare_processes`.
        plan: of the sweep.
        task: makes the jobs.
    """

    def start(index: int) -> BaseProcess:
        path = _log_path(plan, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        process = context.Process(
            target=_main, args=(plan, task, index, str(path)), name=f"worker {index}"
        )
        process.start()
        return process

    def until_one_ends(processes: Collection[BaseProcess]) -> None:
        wait([process.sentinel for process in processes], timeout=1.0)

    return Pool(start, until_one_ends, lambda process: is_stopped(process.pid))


def describe_death(plan: Plan, index: int, exitcode: int | None) -> str:
    """How a worker ended, and the end of its log; or that it never began (None)."""
    if exitcode is None:
        return "the last one could not be started, for want of memory, processes or space"
    path = _log_path(plan, index)
    if not takes_files(path.parent):
        return f"the last one ended with {exitcode}: {path.parent} takes no more files; make room"
    return f"the last one ended with {exitcode}; its log, {path}, ends:\n{_tail(path)}"


class WorkerJob:
    """A worker as the task function of a Hydra launcher's job.

    The job's number is the worker's index.
    """

    def __init__(self, plan: Plan, task: Task) -> None:
        self._plan, self._task = plan, task

    def __call__(self, config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        from sweeps.workers.worker import work

        register_config()
        plan, index = self._plan, int(HydraConfig.get().job.num)
        if plan.command == holder("command"):
            work(plan, self._task, index, handle_signals=False)
            return
        if plan.threads is None and (plan.on_one_machine or "SLURM_JOB_ID" in os.environ):
            # Launchers set OMP_NUM_THREADS for jobs that they know nothing of.
            plan = replace(plan, threads=cores())
        with _output_to(_log_path(plan, index)):
            work(plan, self._task, index)
        if REAL.is_gone(plan.command):
            os._exit(0)  # joblib's process would wait for more


def through_hydra(plan: Plan, task: Task, config: DictConfig, context: HydraContext) -> bool:
    """Start the workers as jobs of the configured launcher, and wait for their end.

    A launcher that loses a worker says so by an exception of its own; the trials of that worker
    are given to others, so it is only logged.

    Returns:
        Whether all workers ended as they should; else some may still be at work.

    Raises:
        UserError: the launcher does not start, or a worker raised it.
    """
    from hydra.core.plugins import Plugins

    make_importable()
    job = WorkerJob(plan, task)
    ours = launchers.configured(config, plan)
    launcher = Plugins.instance().instantiate_launcher(
        config=ours, hydra_context=context, task_function=job
    )
    # Hydra wants jobs to have the settings of the launcher that the command was given.
    launcher.setup(hydra_context=context, task_function=job, config=config)
    # Where the command resolved it to be, which may depend on the time.
    directory = [
        f"hydra.sweep.dir={literal(escaped(str(plan.directory)))}",
        f"hydra.sweep.subdir=workers/{plan.session}-${{hydra.job.num}}",
    ]
    if not config.hydra.verbose:
        logging.getLogger("hydra_plugins").setLevel(logging.WARNING)

    def launch() -> list[Any]:
        with launchers.deaf_children():
            return list(launcher.launch([directory] * plan.workers, initial_job_idx=0))

    with launchers.hosting(ours, plan):
        try:
            for returned in _in_thread(launch):
                _ = returned.return_value  # raises what the worker raised
        except Exception as error:
            if isinstance(error, UserError) and not is_disk_full(error):
                raise
            # Each launcher has its own errors.
            log.warning("a worker was lost: %s: %s", type(error).__name__, first_line(str(error)))
            return False
    return True


def _in_thread(call: Callable[[], T]) -> T:
    """What the call returns. Interrupts reach this thread at once, whatever the call waits for."""
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001  # raised in the other thread
            future.set_exception(error)

    thread = threading.Thread(target=run, name="launcher", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_SECONDS)
    return future.result()


def worker_name(plan: Plan, index: int) -> str:
    """Of a worker, as leases and logs have it."""
    return f"{plan.session}-{index}"


def _log_path(plan: Plan, index: int) -> Path:
    return plan.directory / "workers" / f"{worker_name(plan, index)}.log"


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Write what this process prints into a file, not into the view of the command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    before = os.dup(1), os.dup(2)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(before, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(file)


def register_config() -> None:
    """What `run.py` tells Hydra when it is imported, as far as configs of trials need it."""
    from experiments import config
    from sweeps.space import loader

    config.register()
    loader.install()


def _main(plan: Plan, task: Task, index: int, log_path: str) -> None:
    """Of a worker's process."""
    log_file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
    os.setsid()  # interrupts from the terminal go to the command, which tells its workers
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    say_more(plan.verbose)
    _stop_with_parent()
    register_config()
    from sweeps.workers.worker import work

    try:
        work(plan, task, index)
    except Exception as error:
        if isinstance(error, UserError):
            why = error
        elif is_away(error):
            why = refused(error, plan.storage)
        else:
            raise
        with suppress(OSError):  # its log may be on the same disk
            sys.stderr.write(f"error: {why}\n")
        sys.exit(exit_status(why))


def _stop_with_parent() -> None:
    """Without the command there is nobody to tell what becomes of a worker's trials."""
    import signal

    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(there is none)"
    if lines and lines[-1].startswith("error: "):  # it says all that a person need know
        return lines[-1]
    return "\n".join(lines[-_LOG_TAIL:])
