"""What runs in the world: commands and workers, made of the protocol's own classes."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import Interrupted, Pruned, Superseded, UserError, is_disk_full
from experiments.fence import Owner
from sweeps import bounds
from sweeps.plan import Plan
from sweeps.search.pruning import CountedPruner, Reporting
from sweeps.settings import Settings
from sweeps.space.dimensions import Dimension, Space
from sweeps.space.grid import Grid
from sweeps.storage import private
from sweeps.storage.attributes import STOP
from sweeps.storage.retry import retry
from sweeps.study import recovery
from sweeps.study.claims import Claims
from sweeps.study.execution import Job, Ports, Report, Worker
from sweeps.study.leases import Lease, Watch, holder
from sweeps.study.supervision import Pool, Supervisor, progress_of, run_rounds
from tests.simulation.storage import Disk, Pen, Server, connect
from tests.simulation.world import Machine, Process, SimulatedSystem, World

SIZES = Dimension("latent_dim", CategoricalDistribution([4, 8]), ("4", "8"))
RATES = Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False)
LISTED = Dimension("lr", CategoricalDistribution([1e-3, 3e-4]), ("1e-3", "3e-4"))


@dataclass
class Setting:
    """Of a sweep, and of how its trials behave.

    Attributes:
        space: what is searched.
        limits: of the sweep.
        grid: whether every cell is run.
        epochs: of a trial.
        seconds: an epoch takes.
        workers: of a command.
        behaviour: what a trial does by its overrides: "fail", "nan", "bad" or nothing.
    """

    space: Space
    settings: Settings
    grid: bool
    epochs: int
    seconds: float
    workers: int
    behaviour: Callable[[Sequence[str]], str]

    @property
    def budget(self) -> int:
        if self.grid:
            return Grid(self.space).size
        assert self.settings.n_trials is not None
        if not self.space.is_finite:
            return self.settings.n_trials
        return min(self.settings.n_trials, Grid(self.space).size)


@dataclass
class Day:
    """All that a schedule consists of, and what went wrong in it."""

    world: World
    server: Server
    disk: Disk
    setting: Setting
    faults: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    picture_faults: float = 0.0
    start_faults: float = 0.0
    sessions: int = 0

    def broken(self, text: str) -> None:
        self.world.note(f"BROKEN: {text}")
        self.faults.append(text)


class SimulatedJob:
    """A training that leaves a record after each epoch, as a real one does."""

    def __init__(self, day: Day, overrides: Sequence[str], number: int) -> None:
        self._day, self._overrides = day, list(overrides)
        self.identity = repr(sorted(overrides))
        self.directory = f"vae-{number}"
        self.epochs, self.seed = day.setting.epochs, 0
        self.pen: Pen | None = None

    @property
    def value(self) -> float:
        return sum(map(ord, self.identity)) % 97 / 10

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        assert self.pen is not None
        day, record = self._day, self._day.disk.record(self.directory)
        if record.status == "completed":
            return record.values
        if record.status == "pruned":
            raise Pruned("as it was")
        behaviour = day.setting.behaviour(self._overrides)
        write = self.pen.write
        try:
            write(status="running")
            for epoch in range(record.epochs + 1, self.epochs + 1):
                day.world.pause(day.setting.seconds * (0.5 + day.world.random.random()))
                if behaviour == "fail":
                    raise RuntimeError("asked to fail")
                value = -1.0 if behaviour == "bad" else self.value
                if report(epoch, [value]) and epoch < self.epochs:
                    raise Pruned("not among the best")
                write(epochs=epoch)
                if should_stop() and epoch < self.epochs:
                    raise Interrupted("asked to stop")
            values = (math.nan,) if behaviour == "nan" else (self.value,)
            write(status="completed", values=values)
        except Pruned:
            write(status="pruned")
            raise
        except Superseded:
            raise
        except Interrupted:
            write(status="interrupted")
            raise
        except Exception as error:
            write(status="interrupted" if is_disk_full(error) else "failed")
            raise
        return values

    def pictures(self) -> list[str]:
        return ["samples.png"]

    def summary(self) -> dict[str, Any]:
        return {"epochs": self.epochs}


class BadOnes(BasePruner):
    """Stops a trial whose value is negative, once it has reported; sees that none counts twice."""

    def __init__(self, day: Day) -> None:
        self._day = day

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        if self._day.world.random.random() < 0.5:
            return trial.intermediate_values[trial.last_step or 0] < 0
        seen = study.get_trials(deepcopy=False)
        numbers = {t.number for t in seen}
        for one in seen:
            twice = numbers & set(private.history_of(one))
            if twice:
                self._day.broken(f"rungs count trials {twice} and their retry {one.number}")
        return trial.intermediate_values[trial.last_step or 0] < 0


def plan_of(
    day: Day, session: str, system: SimulatedSystem, settings: Settings, space: Space
) -> Plan:
    setting = day.setting
    return Plan(
        settings=settings, storage=None, directory=Path("/"), session=session, space=space,
        grid=setting.grid, objectives=("psnr",), pruner={}, max_epochs=setting.epochs,
        workers=setting.workers, threads=None, on_one_machine=True,
        command=holder("command", system), working_directory=Path("/"),
    )  # fmt: skip


def worker(day: Day, plan: Plan, index: int, process: Process) -> None:
    """The program of a worker: `sweeps.workers.worker.work`, with the world as its machine."""
    world, system = day.world, SimulatedSystem(process)
    world.pause(2.0 * world.random.random())
    if world.random.random() < day.start_faults:
        raise OSError("cannot start")
    storage = connect(day.server, process)
    study = retry(
        lambda: optuna.load_study(
            study_name="study",
            storage=storage,
            sampler=RandomSampler(seed=world.random.randrange(2**31)),
            pruner=CountedPruner(BadOnes(day)),
        ),
        system,
    )
    lease = Lease(
        study,
        f"{plan.session}-{index}",
        lambda: (
            bool(study.user_attrs.get(f"{STOP} {plan.session}")) or system.is_gone(plan.command)
        ),
        system,
    )
    reporting = Reporting()
    jobs: dict[str, SimulatedJob] = {}

    def prepare(overrides: Sequence[str], number: int) -> SimulatedJob:
        job = SimulatedJob(day, overrides, number)
        jobs[job.directory] = job
        return job

    @contextmanager
    def own(directory: str, token: int, name: str) -> Iterator[None]:
        pen = Pen(day.disk, directory, Owner(token, name))
        pen.fence.take()
        jobs[directory].pen = pen
        yield

    def announce(trial: optuna.Trial, job: Job) -> Callable[[], None]:
        def copy() -> None:
            if world.random.random() < day.picture_faults:
                raise OSError(errno.EIO, "a picture")

        return copy

    ports = Ports(
        prepare=prepare,
        give_back=lambda directory: None,
        report=reporting.report,
        announce=announce,
        own=own,
        free_memory=lambda: None,
        lock=lambda: world.study_lock,
        system=system,
    )
    claims = Claims(study, plan, ports.lock, lease, system)
    overrides: Callable[[Any], Sequence[str]] = lambda claim: plan.space.overrides(  # noqa: E731
        claim.values, claim.seed
    )
    try:
        Worker(study, claims, lease, overrides, ports).work()
    finally:
        lease.end()


class Command:
    """A command, given on a machine; again and again by its user until it has ended well."""

    def __init__(
        self, day: Day, machine: Machine, *, space: Space | None = None, retry_failed: bool = False
    ) -> None:
        self._day, self._machine = day, machine
        self._space, self._retry_failed = space or day.setting.space, retry_failed
        self.supervisor: Supervisor | None = None
        day.sessions += 1
        self.session = f"s{day.sessions}"
        self.process = Process(day.world, machine, self.session)
        self.workers: list[Process] = []
        self.deaths: list[float] = []
        self.began = day.world.now
        day.commands.append(self)
        day.world.start(self.process, self._run)

    @property
    def is_over(self) -> bool:
        return not self.process.is_alive

    def interrupt(self) -> None:
        """As Ctrl-C."""
        import signal

        if self.supervisor is not None:
            self.supervisor.interrupted = signal.SIGINT

    def _run(self) -> None:
        day, world = self._day, self._day.world
        system = SimulatedSystem(self.process)
        study = self._open(system)
        settings = day.setting.settings
        plan = plan_of(day, self.session, system, settings, self._space)
        lock = lambda: world.study_lock  # noqa: E731
        claims = Claims(study, plan, lock, None, system)
        supervisor = self.supervisor = Supervisor(self._connected(), plan, lock, system)

        def died(index: int) -> bool:
            self.deaths.append(world.now)
            supervisor.worker_died(f"{self.session}-{index}")
            return supervisor.interrupted is None

        def launch() -> None:
            pool = Pool(
                partial(self._start, plan), self._until_one_ends, lambda p: p.is_frozen, system
            )
            try:
                pool.run(
                    day.setting.workers,
                    died=died,
                    ended_trials=supervisor.ended_trials,
                    describe=lambda index, code: f"{index} ended with {code}",
                )
            finally:
                pool.kill()

        with supervisor:
            gets_on = run_rounds(
                claims,
                launch,
                lambda: progress_of(study),
                lambda: supervisor.interrupted is not None,
                lambda text: None,
                system,
            )
        if supervisor.interrupted is not None:

            def requeue() -> None:
                with world.study_lock:
                    recovery.requeue_killed(study, self.session, system)

            retry(requeue, system, bounds.ANSWER)
            raise KeyboardInterrupt
        if not gets_on:
            raise UserError("workers do not get on")

    def _connected(self) -> optuna.Study:
        return optuna.load_study(
            study_name="study", storage=connect(self._day.server, self.process)
        )

    def _open(self, system: SimulatedSystem) -> optuna.Study:
        """As `sweeps.planning._open`."""
        day, settings = self._day, self._day.setting.settings

        def opened() -> optuna.Study:
            with day.world.study_lock:
                study = optuna.create_study(
                    study_name="study",
                    storage=connect(day.server, self.process),
                    direction="maximize",
                    load_if_exists=True,
                )
                running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                abandoned = Watch(study, system).look(running)
                recovery.take_over(study, abandoned, settings.max_retries, system=system)
                if self._retry_failed:
                    recovery.retry_failed(study)
            return study

        return retry(opened, system)

    def _start(self, plan: Plan, index: int) -> Process:
        day = self._day
        process = Process(day.world, self._machine, f"{self.session}-{index}")
        self.workers.append(process)
        day.world.start(process, lambda: worker(day, plan, index, process))
        return process

    def _until_one_ends(self, processes: Iterable[Process]) -> None:
        world = self._day.world
        if any(p.exitcode is not None for p in processes):
            return
        waiters: list[Any] = []
        for process in processes:
            process.ended._waiters = waiters
        world.pause(1.0, waiters)
