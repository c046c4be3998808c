"""Searches against the recorded trainings: the sweeper's own code, and a clock that only it moves.

Workers claim trials, sample, report and prune by `sweeps.study` and `sweeps.search`, as processes
of a simulated world (`tests/simulation/world.py`); only a training is looked up. So a search of
twenty trials takes a fraction of a second, and what is measured is what users run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner

from benchmarks.tabular.policies import Policy, RankHalving
from benchmarks.tabular.table import Task
from experiments.errors import Interrupted, Paused
from sweeps.contest.levels import levels_of
from sweeps.plan import Plan
from sweeps.search.memory import first_values
from sweeps.search.pruners import build_pruner, in_epochs, promoting
from sweeps.search.pruning import CountedPruner, Reporting
from sweeps.search.samplers import worker_sampler
from sweeps.settings import Settings
from sweeps.space.dimensions import Dimension, Space
from sweeps.storage.attributes import name_of
from sweeps.study.claims import Claims
from sweeps.study.execution import Ports, Worker
from sweeps.study.leases import Lease, holder
from tests.simulation.world import Lock, Machine, Process, SimulatedSystem, World

OBJECTIVE = "psnr"
USUAL = {"lr": 1e-3, "latent_dim": 32, "beta": 1.0}
"""Of conf/config.yaml."""


@dataclass
class Trace:
    """What a search found, and when.

    Attributes:
        found: seconds and the objective of each trial that was trained to its end, in order.
        seconds: of the whole search.
        epochs: that were trained.
    """

    found: list[tuple[float, float, Mapping[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0
    epochs: int = 0

    @property
    def best(self) -> float:
        """The best objective; minus infinity where nothing was trained to its end."""
        return max((value for _, value, _ in self.found), default=-np.inf)

    def time_to(self, value: float) -> float:
        """Seconds until a trial was that good; all that it took where none was."""
        return min((when for when, each, _ in self.found if each >= value), default=self.seconds)


def space_of(task: Task) -> Space:
    """The search space of a task."""
    rate, beta = task.axes["lr"], task.axes["beta"]
    sizes = int(task.axes["latent_dim"][0]), int(task.axes["latent_dim"][-1])
    return Space(
        (
            Dimension("loss", CategoricalDistribution(task.losses), task.losses),
            Dimension("lr", FloatDistribution(rate[0], rate[-1], log=True), enumerated=False),
            Dimension(
                "latent_dim", IntDistribution(sizes[0], sizes[-1], log=True), enumerated=False
            ),
            Dimension("beta", FloatDistribution(beta[0], beta[-1], log=True), enumerated=False),
        )
    )


class _Search:
    """One search: the trainings' state, which outlives their interruptions, and what was found."""

    def __init__(self, task: Task, world: World, seed: int) -> None:
        self.task, self.world = task, world
        self.seed = task.seeds[seed % len(task.seeds)]
        self.done: dict[int, int] = {}
        self.trace = Trace()

    def train(
        self,
        values: Mapping[str, Any],
        number: int,
        report: Callable[[int, Sequence[float]], bool],
        should_stop: Callable[[], bool],
    ) -> float:
        """Look a training up, epoch by epoch."""
        curve = self.task.curve(values, self.seed, OBJECTIVE)
        seconds = self.task.seconds_of(values)
        self.world.pause(self.task.start_seconds)
        for epoch in range(self.done.get(number, 0) + 1, len(curve) + 1):
            self.world.pause(seconds)
            self.trace.epochs += 1
            self.done[number] = epoch
            if report(epoch, (float(curve[epoch - 1]),)) and epoch < len(curve):
                raise Paused(f"at epoch {epoch}")
            if should_stop() and epoch < len(curve):
                raise Interrupted("asked to stop")
        found = float(np.nanmax(curve))
        self.trace.found.append((self.world.now, found, dict(values)))
        return found


@dataclass
class _Job:
    search: _Search
    values: Mapping[str, Any]
    number: int
    directory: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        self.identity = json.dumps([self.values, self.number])
        self.epochs = self.search.task.epochs

    def run(
        self, report: Callable[[int, Sequence[float]], bool], should_stop: Callable[[], bool]
    ) -> tuple[float, ...]:
        return (self.search.train(self.values, self.number, report, should_stop),)

    def pictures(self) -> list[str]:
        return []

    def summary(self) -> dict[str, Any]:
        return {}


def replay(
    task: Task,
    policy: Policy,
    *,
    trials: int,
    workers: int,
    seed: int,
    past: Sequence[Trace] = (),
) -> Trace:
    """One search.

    Args:
        task: whose trainings are looked up.
        policy: of the search.
        trials: its budget.
        workers: at once.
        seed: of all that is drawn, and which of the table's seeds is trained with.
        past: searches whose ends it begins with.
    """
    world = World(seed)
    search = _Search(task, world, seed)
    if policy.is_stock:
        _stock(search, policy, trials, workers, seed)
    else:
        _ours(search, policy, trials, workers, seed, past)
    return search.trace


def _stock(search: _Search, policy: Policy, trials: int, workers: int, seed: int) -> None:
    """As hydra-optuna-sweeper 1.x: asks for `n_jobs` trials, runs them, waits for all, tells."""
    from sweeps.search.building import built

    study = optuna.create_study(
        direction="maximize", sampler=built({**policy.sampler, "seed": seed}, "sampler")
    )
    space, now = space_of(search.task), 0.0
    for begun in range(0, trials, workers):
        batch = [study.ask() for _ in range(min(workers, trials - begun))]
        ends = []
        for trial in batch:
            values = space.fill(partial(_suggested, trial))
            curve = search.task.curve(values, search.seed, OBJECTIVE)
            end = now + search.task.start_seconds + len(curve) * search.task.seconds_of(values)
            search.trace.found.append((end, float(np.nanmax(curve)), values))
            search.trace.epochs += len(curve)
            ends.append(end)
        for trial, (_, value, _) in zip(batch, search.trace.found[-len(batch) :], strict=True):
            study.tell(trial, value)
        now = max(ends)
    search.trace.seconds = now


def _suggested(trial: optuna.Trial, dimension: Dimension) -> Any:
    return trial._suggest(dimension.key, dimension.distribution)


def _ours(
    search: _Search,
    policy: Policy,
    trials: int,
    workers: int,
    seed: int,
    past: Sequence[Trace],
) -> None:
    world, task = search.world, search.task
    machine = Machine("here", "m1", "n1")
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="study", storage=storage, direction="maximize")
    pruner = {**in_epochs(policy.pruner, max_epochs=task.epochs, warmup_epochs=0)}
    space = space_of(task)
    levels = levels_of(space, policy.compare)
    ended = [[one for _, _, one in sorted(t.found, key=lambda f: -f[1])] for t in past]
    command = Process(world, machine, "command")
    plan = Plan(
        settings=Settings(n_trials=trials // len(levels) * len(levels), sampler=policy.sampler),
        storage=None, directory=Path("/"), session="s1", space=space, grid=False,
        objectives=(OBJECTIVE,), pruner=pruner, workers=workers, threads=None,
        on_one_machine=True, command=holder("command", SimulatedSystem(command)),
        working_directory=Path("/"), compare=policy.compare,
        first={
            name_of(level): first_values(ended, USUAL, space.dimensions, level)
            for level in (levels if policy.first else ())
        },
    )  # fmt: skip
    study_lock = Lock(world, None)
    processes = [Process(world, machine, f"s1-{index}") for index in range(workers)]
    for index, process in enumerate(processes):
        work = partial(_work, search, plan, policy, storage, study_lock, index, process, seed)
        world.start(process, work)
    world.run(float("inf"), lambda: not any(process.is_alive for process in processes))
    for process in processes:
        if process.error is not None:
            raise process.error
    search.trace.seconds = world.now
    world.end()


def _work(
    search: _Search,
    plan: Plan,
    policy: Policy,
    storage: optuna.storages.BaseStorage,
    study_lock: Lock,
    index: int,
    process: Process,
    seed: int,
) -> None:
    """As `sweeps.workers.worker.work`."""
    system = SimulatedSystem(process)
    pruner: Any = None
    promoter: Any = None
    if plan.pruner["_target_"] == "rank":
        pruner = promoter = RankHalving(plan.pruner["first"], compare=policy.rungs)
    else:
        pruner = build_pruner(plan.pruner, objectives=1, compare=policy.rungs)
        promoter = promoting(pruner)
    study = optuna.load_study(
        study_name="study",
        storage=storage,
        sampler=worker_sampler({**plan.settings.sampler, "seed": seed}, plan.space, plan.compare),
        pruner=CountedPruner(pruner, policy.rungs)
        if isinstance(pruner, BasePruner)
        else NopPruner(),
    )
    lease = Lease(study, f"s1-{index}", lambda: False, system, plan.command)
    reporting = Reporting(promoter)
    ports = Ports(
        prepare=lambda overrides, number: _Job(search, json.loads(overrides[0]), number),
        give_back=lambda directory: None,
        report=reporting.report,
        announce=lambda trial, job: lambda: None,
        own=lambda directory, token, name: nullcontext(),
        free_memory=lambda: None,
        lock=lambda: study_lock,
        system=system,
    )
    claims = Claims(study, plan, ports.lock, lease, system, is_lock_certain=True, promoter=promoter)
    try:
        Worker(study, claims, lease, lambda claim: [json.dumps(claim.values)], ports).work()
    finally:
        lease.end()
