"""One bad day: what goes wrong and when, and what must hold at every moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeps import bounds
from sweeps.space.dimensions import Space
from sweeps.storage.attributes import ENDED, LEASE
from sweeps.study.leases import lease_of
from tests.simulation.programs import RATES, SIZES, Command, Day, Order, Setting
from tests.simulation.promises import check, judge
from tests.simulation.settings import draw
from tests.simulation.storage import SLOW, Disk, Server
from tests.simulation.world import Machine, Process, World, quiet

_SOON = 15.0
"""Seconds within which a deadline reaches all workers, if they can hear of it."""
_TRIES = 10  # that a user gives a command, before losing patience
FAULTS = (
    "kill_worker", "kill_worker", "kill_workers", "kill_command", "kill_all", "reboot", "gone",
    "freeze_worker", "freeze_worker", "freeze_machine", "freeze_writer", "away", "away_at_edges",
    "locked", "slow", "deaf", "deaf", "full", "clock", "lock_lost", "second_command",
    "second_command", "other_space", "larger_budget", "bad_start", "pictures", "interrupt",
    "interrupt_twice", "retry_failed",
)  # fmt: skip


@dataclass
class Result:
    """Of a schedule: what was broken, and what happened before."""

    seed: int
    faults: list[str]
    log: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed} breaks a promise:", *self.faults]
        lines += [f"replay: python -m tests.simulation --seed {self.seed}"]
        return "\n".join(lines)


def simulate(
    seed: int, *, log: bool = False, kinds: tuple[str, ...] = FAULTS, **drawn: Any
) -> Result:
    """Live through the day of a seed.

    Args:
        seed: what happens follows from it.
        log: keep what happened.
        kinds: of faults to draw from.
        drawn: what is not to be drawn: see `tests.simulation.settings.draw`.
    """
    with quiet():
        return _Schedule(seed, log, kinds, draw(World(seed).random, **drawn)).run()


class _Schedule:
    def __init__(self, seed: int, log: bool, kinds: tuple[str, ...], setting: Setting) -> None:
        self.seed = seed
        world = self.world = World(seed)
        world.is_logging = log
        self.day = Day(world, Server(world), Disk(world), setting)
        self.kinds = kinds
        self.machines = [
            Machine("one", "m1", "n1", clock=3600.0 * world.random.choice((0, 0, -5, 8))),
            Machine("two", "m2", "n1", clock=3600.0 * world.random.choice((0, 0, -5, 8))),
        ]
        if world.random.random() < 0.3:  # two containers of one machine that share a name
            self.machines[1] = Machine("one", "m1", "n2", next_pid=100)
        self.order = Order(setting.settings, setting.space)
        self.users = 0
        self.lasts = 0.0
        self.heard: dict[int, list[float]] = {}
        self.takers: dict[int, Process] = {}
        self.ends: list[tuple[float, int]] = []
        self.day.server.listeners.append(self._listen)

    def run(self) -> Result:
        random, setting, world = self.world.random, self.day.setting, self.world
        work = setting.budget * setting.epochs * setting.seconds / setting.workers
        self._user(self.machines[0], 0.0, self.order)
        for _ in range(random.randint(1, 6)):
            kind = random.choice(self.kinds)
            moment = random.uniform(0, 1.3 * work + 20)
            self.lasts = max(self.lasts, moment)
            world.at(moment, world.fate, partial(self._strike, kind))
        world.run(20_000, lambda: self.users == 0 and world.now > self.lasts)
        world.now = max(world.now, self.lasts + 1)
        if self.users:
            self.day.broken("a command waits although nobody works")
        elif world.now > self.lasts + self._limit():
            self.day.broken(f"a sweep took {world.now:.0f} s")
        else:
            self._last_command()
        world.end()
        return Result(self.seed, self.day.faults, world.log)

    def _limit(self) -> float:
        """Seconds in which a sweep must end, once nothing goes wrong any more."""
        setting, settings = self.day.setting, self.order.settings
        confirmed = max(settings.confirm, setting.levels) if settings.confirm else 0
        trials = (settings.n_trials or setting.budget) + 2 * confirmed * settings.confirm_seeds
        return trials * setting.epochs * setting.seconds * (settings.max_retries + 1) + 3000

    def _last_command(self) -> None:
        """Given when nobody works any more, and nothing goes wrong any more."""
        day, world = self.day, self.world
        day.picture_faults = day.start_faults = 0.0
        day.is_away_at_edges, day.disk.freeze_writer = False, None
        self._end_writers_elsewhere()
        failed = [t for t in self._trials() if t.state == TrialState.FAIL]
        retry_failed = bool(failed) and self.seed % 2 == 0
        settings = replace(self.order.settings, retry_failed=retry_failed, timeout=None)
        order = replace(self.order, settings=settings)
        began = world.now
        command = Command(day, self.machines[0], order)
        world.run(began + 5000, lambda: command.is_over)
        if command.process.exitcode != 0:
            day.broken(f"the last command ended with {command.process.error!r}")
        else:
            check(day, order, self._trials(), self.ends)

    def _trials(self) -> list[FrozenTrial]:
        memory = self.day.server.memory
        studies = memory.get_all_studies()
        return memory.get_all_trials(studies[0]._study_id, deepcopy=False) if studies else []

    def _user(self, machine: Machine, moment: float, order: Order) -> None:
        self.users += 1
        self.world.at(moment, self.world.fate, lambda: self._give(machine, order))

    def _give(self, machine: Machine, order: Order) -> None:
        """Give a command until it has ended well."""
        for _ in range(_TRIES):
            if machine not in self.machines:
                machine = self.machines[0]  # the other is gone for good
            command = Command(self.day, machine, order)
            command.process.ended.wait()
            judge(self.day, command, self._trials(), self.ends)
            if command.process.exitcode == 0:
                break
            self.world.pause(self.world.random.uniform(1, 90))
            self._end_writers_elsewhere()
        else:
            self.day.broken(f"a command failed {_TRIES} times: {command.process.error!r}")
        self.users -= 1

    def _end_writers_elsewhere(self) -> None:
        """As the message asks for that names a lock which a frozen process holds."""
        for record in self.day.disk.records.values():
            holder = record.lock.holder
            if holder is not None and holder.process.is_frozen:
                self.world.kill(holder.process)

    # What goes wrong

    def _strike(self, kind: str) -> None:
        self.world.note(f"-- {kind}")
        getattr(self, f"_{kind}")()

    def _workers(self) -> list[Process]:
        return [w for c in self.day.commands for w in c.workers if w.is_alive]

    def _commands(self) -> list[Command]:
        return [c for c in self.day.commands if not c.is_over]

    def _some(self, things: list[Any]) -> list[Any]:
        return [self.world.random.choice(things)] if things else []

    def _kill_worker(self) -> None:
        for worker in self._some(self._workers()):
            self.world.kill(worker)

    def _kill_command(self) -> None:
        for command in self._some(self._commands()):
            self.world.kill(command.process)

    def _kill_workers(self) -> None:
        """Several, one after another."""
        for n in range(self.world.random.randint(2, 5)):
            delay = n * self.world.random.uniform(0.2, 1.5) * self.day.setting.seconds
            self.lasts = max(self.lasts, self.world.now + delay)
            self.world.at(self.world.now + delay, self.world.fate, self._kill_worker)

    def _kill_all(self, machine: Machine | None = None) -> None:
        machine = machine or self.world.random.choice(self.machines)
        for process in list(machine.processes.values()):
            self.world.kill(process)

    def _reboot(self) -> None:
        machine = self.world.random.choice(self.machines)
        self._kill_all(machine)
        for other in self.machines:  # with all its containers
            if other.machine == machine.machine:
                self._kill_all(other)
                other.boots += 1
                other.processes, other.next_pid = {}, 100

    def _gone(self) -> None:
        machine = self.world.random.choice(self.machines)
        self._kill_all(machine)
        index = self.machines.index(machine)
        new = f"{machine.machine}+"
        self.machines[index] = Machine(machine.host, new, machine.namespace, clock=machine.clock)

    def _freeze_worker(self) -> None:
        for worker in self._some(self._workers()):
            random = self.world.random
            self.world.freeze(worker, random.choice((40, 130, 400, 15_000)) * random.random())

    def _freeze_machine(self) -> None:
        machine = self.world.random.choice(self.machines)
        seconds = self.world.random.uniform(5, 500)
        for process in list(machine.processes.values()):
            self.world.freeze(process, seconds)

    def _away(self) -> None:
        self.day.server.be_away(self.world.random.uniform(1, 150))
        self.lasts = max(self.lasts, self.day.server.away_until)

    def _locked(self) -> None:
        self.day.server.be_locked(self.world.random.uniform(1, 150))
        self.lasts = max(self.lasts, self.day.server.locked_until)

    def _slow(self) -> None:
        self.day.server.slow_until = self.world.now + self.world.random.uniform(5, 60)
        self.lasts = max(self.lasts, self.day.server.slow_until)

    def _deaf(self) -> None:
        self.day.server.deaf_until = self.world.now + self.world.random.uniform(1, 60)
        self.lasts = max(self.lasts, self.day.server.deaf_until)

    def _full(self) -> None:
        self.day.disk.full_until = self.world.now + self.world.random.uniform(1, 60)
        self.lasts = max(self.lasts, self.day.disk.full_until)

    def _clock(self) -> None:
        self.world.random.choice(self.machines).clock += self.world.random.uniform(-7200, 7200)

    def _second_command(self) -> None:
        self._user(self.world.random.choice(self.machines), self.world.now, self.order)

    def _other_space(self) -> None:
        """A command that searches fewer keys, or more."""
        random, space = self.world.random, self.order.space
        if self.day.setting.grid or space.is_finite:
            return
        fewer, more = Space((RATES,)), Space((SIZES, RATES))
        other = fewer if len(space.dimensions) > 1 else more
        if other is more:
            self.order = replace(self.order, space=more)
        if random.random() < 0.5:
            self._kill_all()
        self._user(random.choice(self.machines), self.world.now, replace(self.order, space=other))

    def _larger_budget(self) -> None:
        before = self.order.settings.n_trials
        if before is not None:
            settings = replace(
                self.order.settings, n_trials=before + self.world.random.randint(1, 2)
            )
            self.order = replace(self.order, settings=settings)
            self._second_command()

    def _retry_failed(self) -> None:
        settings = replace(self.order.settings, retry_failed=True)
        order = replace(self.order, settings=settings)
        self._user(self.world.random.choice(self.machines), self.world.now, order)

    def _bad_start(self) -> None:
        self.day.start_faults = 0.8

        def end() -> None:
            self.day.start_faults = 0.0

        moment = self.world.now + self.world.random.uniform(1, 40)
        self.lasts = max(self.lasts, moment)
        self.world.at(moment, self.world.fate, end)

    def _pictures(self) -> None:
        self.day.picture_faults = 0.7

    def _freeze_writer(self) -> None:
        """Whoever writes a record next, in the middle of it."""
        random = self.world.random
        self.day.disk.freeze_writer = random.choice((40, 130, 400, 15_000)) * random.random()

    def _away_at_edges(self) -> None:
        """When commands begin and end."""
        self.day.is_away_at_edges = True

    def _lock_lost(self) -> None:
        """The study's lock is let go while somebody holds it, such as by a server that restarts."""
        until = self.world.now + self.world.random.uniform(1, 60)
        for machine in self.machines:
            self.day.study_lock(machine).flaky_until = until

    def _interrupt(self) -> None:
        for command in self._some(self._commands()):
            command.interrupt()

    def _interrupt_twice(self) -> None:
        for command in self._some(self._commands()):
            command.interrupt()
            moment = self.world.now + 5 * self.world.random.random()
            self.lasts = max(self.lasts, moment)
            self.world.at(moment, self.world.fate, command.interrupt)

    # What must hold at every moment

    def _listen(self, process: Process, name: str, args: tuple[Any, ...], found: Any) -> None:
        memory, world = self.day.server.memory, self.world
        if name == "create_new_trial":
            new = self._trials()[-1]
            world.note(f"{process.name} creates trial {new.number}, {new.state.name}")
            self.heard[new._trial_id] = [world.now]
            self.takers[new._trial_id] = process
            if new.state == TrialState.RUNNING:
                self._check_time(process)
        elif name == "set_trial_user_attr" and args[1] == LEASE:
            self.heard[args[0]].append(world.now)
        elif name == "set_trial_user_attr" and args[1] == ENDED:
            self.ends.append((world.now, args[0]))
        elif name == "set_trial_state_values" and found:
            trial = memory.get_trial(args[0])
            world.note(f"{process.name} makes trial {trial.number} {args[1].name}")
            self._check_taker(process, trial)
            if args[1] == TrialState.RUNNING:
                self.takers[args[0]] = process
                self._check_time(process)

    def _check_time(self, process: Process) -> None:
        """Whether a trial may begin, by the clock of the command."""
        command = next((c for c in self.day.commands if process in c.workers), None)
        if command is None or self.world.now < command.ends_at:
            return
        is_excused = any(p.thaws > command.ends_at for p in (process, command.process))
        is_excused |= self.day.server.slow_until > command.ends_at
        if not is_excused and self.day.server.writable(command.ends_at) > _SOON:
            self.day.broken(f"{process.name} begins a trial after the deadline")

    def _check_taker(self, process: Process, trial: FrozenTrial) -> None:
        lease = lease_of(trial)
        if not lease or trial.state == TrialState.RUNNING:
            return
        owner = self._process(lease)
        if owner is None or process in (owner, self.takers[trial._trial_id]) or not owner.is_alive:
            return
        # A sign of life that came while the taker's write was under way, it could not have seen.
        seen = [t for t in self.heard[trial._trial_id] if t < self.world.now - SLOW - 0.1]
        heard = seen[-1] if seen else self.heard[trial._trial_id][0]
        silent = self.day.server.writable(heard)
        if trial.state == TrialState.WAITING or silent < bounds.LEASE_TIMEOUT:
            self.day.broken(
                f"{process.name} takes trial {trial.number} from {owner.name}, which lives and "
                f"could not be heard but for {silent:.0f} s"
            )

    def _process(self, lease: dict[str, Any]) -> Process | None:
        for machine in self.machines:
            found = machine.processes.get(lease["pid"])
            here = machine.here()
            is_here = all(lease[key] == here[key] for key in ("machine", "namespace", "boot"))
            if is_here and found is not None and found.born == lease["born"]:
                return found
        return None
