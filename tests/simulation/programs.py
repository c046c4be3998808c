"""What runs in the world: commands and workers, made of the protocol's own classes."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import Interrupted, Paused, Pruned, Superseded, UserError, is_disk_full
from experiments.record.fence import Owner
from sweeps import bounds, planning
from sweeps.plan import Plan
from sweeps.search.halving import Halving
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
from tests.simulation.world import Lock, Machine, Process, SimulatedSystem, World

SIZES = Dimension("latent_dim", CategoricalDistribution([4, 8]), ("4", "8"))
RATES = Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False)
LISTED = Dimension("lr", CategoricalDistribution([1e-3, 3e-4]), ("1e-3", "3e-4"))


@dataclass
class Setting:
    """Of a sweep, and of how its trials behave.

    Attributes:
        space: what is searched.
        settings: of the sweep.
        grid: whether every point is run.
        objectives: names of them.
        epochs: of a trial.
        seconds: an epoch takes.
        workers: of a command.
        behaviour: what a trial does by its overrides: "fail", "nan", "bad" or nothing.
        has_common_lock: the study's lock reaches all machines, as it does not with a gRPC proxy.
        compare: keys whose levels are searched each for itself.
        promotes: trials are pruned for now, and go on when others disappoint.
    """

    space: Space
    settings: Settings
    grid: bool
    objectives: tuple[str, ...]
    epochs: int
    seconds: float
    workers: int
    behaviour: Callable[[Sequence[str]], str]
    has_common_lock: bool
    compare: tuple[str, ...] = ()
    promotes: bool = False

    @property
    def budget(self) -> int:
        if self.grid:
            return Grid(self.space).size
        assert self.settings.n_trials is not None
        trials = self.settings.n_trials // self.levels * self.levels
        return min(trials, Grid(self.space).size) if self.space.is_finite else trials

    @property
    def levels(self) -> int:
        """How many are compared; 1 where nothing is. Each has as many points as the others."""
        return math.prod(d.size for d in self.space.dimensions if d.key in self.compare)


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
    is_away_at_edges: bool = False
    sessions: int = 0
    locks: dict[str, Lock] = field(default_factory=dict)

    def broken(self, text: str) -> None:
        self.world.note(f"BROKEN: {text}")
        self.faults.append(text)

    def study_lock(self, machine: Machine) -> Lock:
        """The lock of the study, as a machine sees it."""
        name = "" if self.setting.has_common_lock else machine.machine
        return self.locks.setdefault(name, Lock(self.world, bounds.LOCK_WAIT))


@dataclass(frozen=True)
class Order:
    """What a user wants of a command: settings and a space, which need not be those of others."""

    settings: Settings
    space: Space


class SimulatedJob:
    """A training that leaves a record after each epoch, as a real one does."""

    def __init__(self, day: Day, overrides: Sequence[str], number: int) -> None:
        self._day, self._overrides = day, list(overrides)
        self.identity = repr(sorted(overrides))
        self.directory = f"vae-{number}"
        self.epochs, self.seed = day.setting.epochs, 0
        self.pen: Pen | None = None

    @property
    def values(self) -> tuple[float, ...]:
        code = sum(map(ord, self.identity))
        return tuple(code * (2 * n + 1) % 97 / 10 for n in range(len(self._day.setting.objectives)))

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        assert self.pen is not None
        day, record = self._day, self._day.disk.record(self.directory)
        if record.status == "completed":
            return record.values
        if record.status in ("pruned", "paused"):
            raise (Paused if record.status == "paused" else Pruned)("as it was")
        behaviour = day.setting.behaviour(self._overrides)
        write = self.pen.write
        try:
            write(status="running")
            for epoch in range(record.epochs + 1, self.epochs + 1):
                day.world.pause(day.setting.seconds * (0.5 + day.world.random.random()))
                if behaviour == "fail":
                    raise RuntimeError("asked to fail")
                values = (-1.0,) * len(self.values) if behaviour == "bad" else self.values
                is_pruned = report(epoch, values)
                write(epochs=epoch)
                if is_pruned and epoch < self.epochs:
                    raise (Paused if day.setting.promotes else Pruned)("not among the best")
                if should_stop() and epoch < self.epochs:
                    raise Interrupted("asked to stop")
            values = (math.nan, *self.values[1:]) if behaviour == "nan" else self.values
            write(status="completed", values=values)
        except Pruned:
            write(status="paused" if day.setting.promotes else "pruned")
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


class Draws(BaseSampler):
    """Draws a value of each parameter, as Optuna's RandomSampler does in a hundred times the time.

    Args:
        random: where from.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if isinstance(param_distribution, CategoricalDistribution):
            return self._random.choice(param_distribution.choices)
        assert isinstance(param_distribution, FloatDistribution)
        low, high = math.log(param_distribution.low), math.log(param_distribution.high)
        return math.exp(self._random.uniform(low, high))


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


def halving_of(day: Day) -> Halving | None:
    """What prunes and promotes, where anything does."""
    return Halving(1, 2, day.setting.compare) if day.setting.promotes else None


def plan_of(
    day: Day, session: str, system: SimulatedSystem, settings: Settings, space: Space,
    deadline: float | None,
) -> Plan:  # fmt: skip
    setting = day.setting
    return Plan(
        settings=settings, storage=None, directory=Path("/"), session=session, space=space,
        grid=setting.grid, objectives=setting.objectives, pruner={},
        workers=setting.workers, threads=None, on_one_machine=True,
        command=holder("command", system), working_directory=Path("/"), deadline=deadline,
        compare=setting.compare, design={"planned": settings.confirm_seeds},
    )  # fmt: skip


def worker(day: Day, plan: Plan, index: int, process: Process) -> None:
    """The program of a worker: `sweeps.workers.worker.work`, with the world as its machine."""
    world, system = day.world, SimulatedSystem(process)
    world.pause(2.0 * world.random.random())
    if world.random.random() < day.start_faults:
        raise OSError("dies at its start")
    storage = connect(day.server, process)
    study = retry(
        lambda: optuna.load_study(
            study_name="study",
            storage=storage,
            sampler=Draws(world.random),
            pruner=CountedPruner(BadOnes(day), plan.compare),
        ),
        system,
    )
    stop = f"{STOP} {plan.session}"
    lease = Lease(
        study,
        f"{plan.session}-{index}",
        lambda: private.is_set(study, stop) or system.is_gone(plan.command),
        system,
        plan.command,
    )
    halving = halving_of(day)
    reporting = Reporting(halving)
    jobs: dict[str, SimulatedJob] = {}

    def prepare(overrides: Sequence[str], number: int) -> SimulatedJob:
        job = SimulatedJob(day, overrides, number)
        jobs[job.directory] = job
        return job

    @contextmanager
    def own(directory: str, token: int, name: str) -> Iterator[None]:
        pen = Pen(day.disk, directory, Owner(token, name), process)
        pen.fence.take()
        jobs[directory].pen = pen
        yield

    def reopen(directory: str, epochs: int) -> None:
        record, pen = day.disk.record(directory), jobs[directory].pen
        assert pen is not None
        if record.status == "paused" and record.epochs <= epochs:
            pen.write(status="interrupted")

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
        lock=lambda: day.study_lock(process.machine),
        reopen=reopen,
        system=system,
    )
    claims = Claims(study, plan, ports.lock, lease, system, promoter=halving)
    overrides: Callable[[Any], Sequence[str]] = lambda claim: plan.space.overrides(  # noqa: E731
        claim.values, claim.seed
    )
    try:
        Worker(study, claims, lease, overrides, ports).work()
    finally:
        lease.end()


class Command:
    """A command, given on a machine; again and again by its user until it has ended well.

    Args:
        day: of the world.
        machine: that it is given on.
        order: what the user wants of it.
    """

    def __init__(self, day: Day, machine: Machine, order: Order) -> None:
        self._day, self.machine, self.order = day, machine, order
        self.supervisor: Supervisor | None = None
        day.sessions += 1
        self.session = f"s{day.sessions}"
        self.process = Process(day.world, machine, self.session)
        self.workers: list[Process] = []
        self.deaths: list[float] = []
        self.interrupts: list[float] = []
        self.ends_at = math.inf
        day.commands.append(self)
        day.world.start(self.process, self._run)

    @property
    def is_over(self) -> bool:
        return not self.process.is_alive

    def interrupt(self) -> None:
        """As Ctrl-C: see `sweeps.command._interruptible`."""
        import signal

        self.interrupts.append(self._day.world.now)
        if self.supervisor is not None and self.supervisor.interrupted is None:
            self.supervisor.interrupted = signal.SIGINT
            return
        if self.supervisor is not None:
            self.supervisor.end()
        self._day.world.interrupt(self.process, KeyboardInterrupt())

    def _run(self) -> None:
        """As `sweeps.command.run_sweep`."""
        day, system = self._day, SimulatedSystem(self.process)
        self._may_find_the_storage_away()
        study, deadline = self._open(system)
        plan = plan_of(day, self.session, system, self.order.settings, self.order.space, deadline)
        lock = lambda: day.study_lock(self.machine)  # noqa: E731
        claims = Claims(study, plan, lock, None, system, promoter=halving_of(day))
        supervisor = Supervisor(self._connected(system), plan, lock, system)
        self.supervisor = supervisor
        killed, gets_on = False, True
        try:
            with supervisor:
                gets_on = run_rounds(
                    claims,
                    lambda: self._launch(plan, supervisor, system),
                    lambda: progress_of(study),
                    lambda: supervisor.interrupted is not None,
                    lambda text: None,
                    system,
                )
        except KeyboardInterrupt:
            killed = True
        self._may_find_the_storage_away()
        if killed or supervisor.interrupted is not None:
            supervisor.requeue_killed()
            raise KeyboardInterrupt
        if not gets_on:
            raise UserError("workers do not get on")
        retry(partial(study.get_trials, deepcopy=False), system, bounds.ANSWER)

    def _may_find_the_storage_away(self) -> None:
        world = self._day.world
        if self._day.is_away_at_edges and world.random.random() < 0.5:
            self._day.server.be_away(world.random.uniform(1, 50))

    def _launch(self, plan: Plan, supervisor: Supervisor, system: SimulatedSystem) -> None:
        """A round of workers, as `sweeps.command._launch`."""

        def died(index: int) -> bool:
            self.deaths.append(self._day.world.now)
            supervisor.worker_died(f"{self.session}-{index}")
            return supervisor.interrupted is None

        pool = Pool(partial(self._start, plan), self._until_one_ends, lambda p: p.is_frozen, system)
        try:
            pool.run(
                plan.workers,
                died=died,
                ended_trials=supervisor.ended_trials,
                describe=lambda index, code: f"{index} ended with {code}",
            )
        finally:
            pool.kill()

    def _connected(self, system: SimulatedSystem) -> optuna.Study:
        storage = connect(self._day.server, self.process)
        return retry(lambda: optuna.load_study(study_name="study", storage=storage), system)

    def _open(self, system: SimulatedSystem) -> tuple[optuna.Study, float | None]:
        """As `sweeps.planning.opened`."""
        day, settings = self._day, self.order.settings

        def opened() -> tuple[optuna.Study, float | None]:
            with day.study_lock(self.machine):
                study = optuna.create_study(
                    study_name="study",
                    storage=connect(day.server, self.process),
                    directions=["maximize"] * len(day.setting.objectives),
                    load_if_exists=True,
                )
                running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                abandoned = Watch(study, system).look(running)
                recovery.take_over(study, abandoned, settings.max_retries, system=system)
                if settings.retry_failed:
                    recovery.retry_failed(study)
                deadline = planning._deadline(study, settings.timeout, system.utc())
            return study, deadline

        study, deadline = retry(opened, system)
        if deadline is not None:
            self.ends_at = day.world.now + deadline - system.utc()
        return study, deadline

    def _start(self, plan: Plan, index: int) -> Process:
        day = self._day
        if day.world.random.random() < day.start_faults / 2:
            raise OSError(errno.EAGAIN, "no more processes")
        process = Process(day.world, self.machine, f"{self.session}-{index}")
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
        world.pause(0.9 * bounds.LONGEST_GAP, waiters)
