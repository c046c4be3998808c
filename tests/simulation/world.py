"""Time, processes and machines: who runs, who is frozen, who is dead."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from sweeps.storage.retry import LockTimeoutError
from sweeps.system import Process as Identity
from sweeps.system import is_known_gone

MOST_STEPS = 20_000
"""Of a schedule, which usually has some hundreds; those that go in circles end."""

Wake = tuple[float, int, "Task", int]


@dataclass
class Machine:
    """A computer, or a container with process numbers of its own."""

    host: str
    machine: str
    namespace: str
    boots: int = 0
    clock: float = 0.0
    """How far its clock of the day is off."""
    next_pid: int = 100
    processes: dict[int, Process] = field(default_factory=dict)

    def here(self) -> dict[str, str]:
        return _here(self.host, self.machine, self.namespace, self.boots)

    def born(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        return process.born if process is not None and process.is_alive else None


@cache
def _here(host: str, machine: str, namespace: str, boots: int) -> dict[str, str]:
    boot = f"{machine}/{boots}"
    return {"host": host, "machine": machine, "namespace": namespace, "boot": boot}


class Process:
    """A process; its threads are tasks."""

    def __init__(self, world: World, machine: Machine, name: str) -> None:
        self.world, self.machine, self.name = world, machine, name
        self.pid = machine.next_pid
        machine.next_pid += 1
        machine.processes[self.pid] = self
        self.born = f"{world.now:.3f}"
        self.is_alive = True
        self.exitcode: int | None = None
        self.error: BaseException | None = None
        self.thaws = 0.0
        self.frozen_since: float | None = None
        self.tasks: list[Task] = []
        self.holds: list[Lock] = []
        self.ended = Flag(world)

    @property
    def is_frozen(self) -> bool:
        return self.thaws > self.world.now

    def kill(self) -> None:
        self.world.kill(self)

    def join(self) -> None:
        """It is dead at once."""


class Task:
    """A thread."""

    def __init__(self, process: Process, target: Callable[[], Any]) -> None:
        self.process = process
        self.turn = 0
        self.interrupt: BaseException | None = None
        self.is_over = Flag(process.world)
        self.greenlet = greenlet(lambda: process.world.body(self, target), process.world.hub)


class Flag:
    """An event of the world."""

    def __init__(self, world: World) -> None:
        self._world, self._is_set = world, False
        self._waiters: list[tuple[Task, int]] = []

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            self._world.wake(*waiter)
        self._waiters = []

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._world.pause(timeout, self._waiters)
        return self._is_set


class Lock:
    """A lock that goes with the process that holds it.

    Args:
        world: where it is.
        timeout: for how long one waits for it; None for ever.
        error: is raised then.

    Attributes:
        flaky_until: before, it may be let go while somebody holds it, who does not hear of it.
    """

    def __init__(
        self, world: World, timeout: float | None, error: type[Exception] = LockTimeoutError
    ) -> None:
        self._world, self._timeout, self._error = world, timeout, error
        self.holder: Task | None = None
        self.flaky_until = 0.0
        self._waiters: list[tuple[Task, int]] = []

    def __enter__(self) -> None:
        world = self._world
        end = None if self._timeout is None else world.now + self._timeout
        while self.holder is not None:
            if end is not None and world.now >= end:
                raise self._error("another one holds the lock")
            world.pause(None if end is None else end - world.now, self._waiters)
        self.holder = holder = world.current
        holder.process.holds.append(self)
        if self.flaky_until > world.now:
            world.at(
                world.now + world.random.choice((0.05, 0.5, 5)) * world.random.random(),
                world.fate,
                lambda: self.release() if self.holder is holder else None,
            )

    def __exit__(self, *_: Any) -> None:
        if self.holder is not None and self.holder.greenlet is getcurrent():
            self.release()

    def release(self) -> None:
        assert self.holder is not None
        self.holder.process.holds.remove(self)
        self.holder = None
        waiters, self._waiters = self._waiters, []
        self._world.random.shuffle(waiters)
        for waiter in waiters:
            self._world.wake(*waiter)


class World:
    """What happens, in which order, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.tasks: dict[Any, Task] = {}
        self._heap: list[Wake] = []
        self._sequence = 0
        self._dead: list[Task] = []
        self.hub = getcurrent()
        self.log: list[str] = []
        self.is_logging = False
        self.steps = 0
        self.has_record: Callable[[str], bool] = lambda directory: False
        self.fate = Process(self, Machine("nowhere", "m0", "n0"), "fate")
        self.start(self.fate, lambda: self.pause(None))

    @property
    def current(self) -> Task:
        """The one that acts; one whose process is dead does nothing more."""
        task = self.tasks.get(getcurrent())
        if task is None or not task.process.is_alive:
            raise GreenletExit
        return task

    def note(self, text: str) -> None:
        if self.is_logging:
            self.log.append(f"{self.now:9.3f}  {text}")

    def start(self, process: Process, target: Callable[[], Any]) -> Task:
        task = Task(process, target)
        process.tasks.append(task)
        self.tasks[task.greenlet] = task
        self._schedule(task, self.now)
        return task

    def at(self, moment: float, process: Process, action: Callable[[], Any]) -> None:
        """Do something later, as a process that nobody can harm."""
        task = self.start(process, action)
        task.turn += 1
        self._schedule(task, moment)

    def body(self, task: Task, target: Callable[[], Any]) -> None:
        process = task.process
        try:
            target()
        except GreenletExit:
            return
        except BaseException as error:
            if process.tasks[0] is not task:
                raise  # of a thread, which catches its own
            process.error = error
        finally:
            task.is_over.set()
            self.tasks.pop(task.greenlet, None)
        if process.tasks[0] is task:
            self.note(f"{process.name} ends: {process.error!r}")
            self._bury(process, 0 if process.error is None else 1)

    def pause(self, seconds: float | None, waiters: list[tuple[Task, int]] | None = None) -> None:
        """Let others run until the time has passed, or somebody wakes one of the waiters."""
        task = self.current
        task.turn += 1
        if waiters is not None:
            waiters.append((task, task.turn))
        if seconds is not None:
            self._schedule(task, self.now + seconds)
        self.hub.switch()
        if not task.process.is_alive:
            raise GreenletExit
        if task.interrupt is not None:
            error, task.interrupt = task.interrupt, None
            raise error

    def interrupt(self, process: Process, error: BaseException) -> None:
        """Raise an error in the main thread of a process, as a signal's handler may."""
        if process.is_alive:
            self.note(f"{process.name} is interrupted")
            process.tasks[0].interrupt = error
            self._schedule(process.tasks[0], self.now)

    def wake(self, task: Task, turn: int) -> None:
        if task.process.is_alive and task.turn == turn:
            self._schedule(task, self.now)

    def kill(self, process: Process) -> None:
        if process.is_alive:
            self.note(f"{process.name} is killed")
            self._bury(process, -9)

    def freeze(self, process: Process, seconds: float) -> None:
        if process.is_alive:
            self.note(f"{process.name} is frozen for {seconds:.0f} s")
            if not process.is_frozen:
                process.frozen_since = self.now
            process.thaws = max(process.thaws, self.now + seconds)

    def run(self, until: float, is_done: Callable[[], bool]) -> None:
        """Let everybody act in their turn."""
        while self._heap and not is_done() and self.steps < MOST_STEPS:
            self.steps += 1
            moment, _, task, turn = heapq.heappop(self._heap)
            if turn != task.turn or not task.process.is_alive:
                continue
            if moment > until:
                return
            self.now = max(self.now, moment)
            if task.process.thaws > self.now:
                self._schedule(task, task.process.thaws)
                continue
            task.turn += 1
            task.greenlet.switch()
            self._reap()

    def _reap(self) -> None:
        """The dead leave what they were in; what they would do there they do no more."""
        while self._dead:
            task = self._dead.pop()
            if not task.greenlet.dead:
                task.greenlet.throw(GreenletExit)

    def end(self) -> None:
        """Nobody acts any more."""
        for task in list(self.tasks.values()):
            self._bury(task.process, -9)
        self._reap()

    def _schedule(self, task: Task, moment: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (moment, self._sequence, task, task.turn))

    def _bury(self, process: Process, exitcode: int) -> None:
        if not process.is_alive:
            return
        process.is_alive, process.exitcode = False, exitcode
        for lock in list(process.holds):
            lock.release()
        process.ended.set()
        for task in process.tasks:
            self.tasks.pop(task.greenlet, None)
            self._dead.append(task)
            task.is_over.set()


class SimulatedSystem:
    """The machine of a process, as the protocol sees it."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world

    def elapsed(self) -> float:
        return self._world.now

    def utc(self) -> float:
        return self._world.now + self._process.machine.clock

    def sleep(self, seconds: float) -> None:
        self._world.pause(seconds)

    def random(self) -> float:
        return self._world.random.random()

    def event(self) -> Flag:
        return Flag(self._world)

    def mutex(self) -> Lock:
        return Lock(self._world, None)

    def start(self, target: Callable[[], None], name: str) -> Joined:
        return Joined(self._world.start(self._process, target))

    def this_process(self) -> Identity:
        process = self._process
        return {**process.machine.here(), "pid": process.pid, "born": process.born}

    def is_gone(self, process: Identity) -> bool:
        machine = self._process.machine
        return is_known_gone(process, machine.here(), machine.born)

    def kill(self, process: Identity) -> bool:
        machine = self._process.machine
        if any(process.get(key) != value for key, value in machine.here().items()):
            return self.is_gone(process)
        found = machine.processes.get(process["pid"])
        if found is self._process:
            return False
        if found is not None and found.born == process["born"]:
            self._world.kill(found)
        return True

    def has_record(self, directory: str, number: int) -> bool:
        return self._world.has_record(directory)


class Joined:
    """A thread, to wait for."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def join(self, timeout: float | None = None) -> None:
        self._task.is_over.wait(timeout)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what a bad day says, nor collections of garbage, which take a third of it."""
    import gc
    import logging

    before, collects = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        logging.disable(before)
        if collects:
            gc.enable()
