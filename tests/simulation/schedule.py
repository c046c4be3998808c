"""One bad day: what is swept, what goes wrong and when, and whether all promises were kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.errors import UserError
from sweeps import bounds
from sweeps.settings import Settings
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.space.points import point_name
from sweeps.storage import private
from sweeps.storage.attributes import CELL, ENDED, LEASE, REASON, budgeted
from sweeps.storage.retry import is_away
from sweeps.study.leases import lease_of
from tests.simulation.programs import LISTED, RATES, SIZES, Command, Day, Setting
from tests.simulation.storage import Disk, Server
from tests.simulation.world import Machine, Process, World, quiet

_TRIES = 10  # that a user gives a command, before losing patience
FAULTS = (
    "kill_worker", "kill_worker", "kill_workers", "kill_all", "reboot", "gone", "freeze_worker",
    "freeze_worker", "freeze_machine", "away", "locked", "deaf", "deaf", "full", "clock",
    "second_command", "second_command", "bad_start", "pictures", "interrupt", "fewer_keys",
    "retry_failed",
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
    seed: int,
    *,
    log: bool = False,
    kinds: tuple[str, ...] = FAULTS,
    space: str | None = None,
    patience: int | None = None,
) -> Result:
    """Live through the day of a seed.

    Args:
        seed: what happens follows from it.
        log: keep what happened.
        kinds: of faults to draw from.
        space: that is searched; None to draw it.
        patience: `stop_after_no_improvement`; None to draw it.
    """
    with quiet():
        return _Schedule(seed, log, kinds, _setting(World(seed), space, patience)).run()


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
        nobody = Machine("nowhere", "m0", "n0")
        self.fate = Process(world, nobody, "fate")
        world.start(self.fate, lambda: world.pause(None))
        self.users = 0
        self.lasts = 0.0
        self.interrupted: set[Command] = set()
        self.heard: dict[int, float] = {}
        self.ends: list[tuple[float, int]] = []
        self.day.server.listeners.append(self._listen)

    def run(self) -> Result:
        random, setting, world = self.world.random, self.day.setting, self.world
        work = setting.budget * setting.epochs * setting.seconds / setting.workers
        self._user(self.machines[0], 0.0, setting.space)
        for _ in range(random.randint(1, 6)):
            kind = random.choice(self.kinds)
            moment = random.uniform(0, 1.3 * work + 20)
            self.lasts = max(self.lasts, moment)
            world.at(moment, self.fate, partial(self._strike, kind))
        retries = setting.settings.max_retries + 1
        limit = work * setting.workers * retries + 3000
        world.run(20_000, lambda: self.users == 0 and world.now > self.lasts)
        world.now = max(world.now, self.lasts + 1)
        if self.users:
            self.day.broken("a command waits although nobody works")
        elif world.now > self.lasts + limit:
            self.day.broken(f"a sweep took {world.now:.0f} s")
        else:
            self._last_command()
        world.end()
        return Result(self.seed, self.day.faults, world.log)

    def _last_command(self) -> None:
        """Given when nobody works any more, and nothing goes wrong any more."""
        day, world = self.day, self.world
        day.picture_faults = day.start_faults = 0.0
        failed = [t for t in self._trials() if t.state == TrialState.FAIL]
        retry_failed = bool(failed) and self.seed % 2 == 0
        machine = self._machine()
        began = world.now
        command = Command(day, machine, retry_failed=retry_failed)
        world.run(began + 5000, lambda: command.is_over)
        if command.process.exitcode != 0:
            day.broken(f"the last command ended with {command.process.error!r}")
        else:
            _check(day, self._trials(), self.ends, retry_failed)

    def _trials(self) -> list[FrozenTrial]:
        memory = self.day.server.memory
        studies = memory.get_all_studies()
        return memory.get_all_trials(studies[0]._study_id, deepcopy=False) if studies else []

    def _machine(self) -> Machine:
        return self.machines[0]

    def _user(
        self, machine: Machine, moment: float, space: Space, *, retry_failed: bool = False
    ) -> None:
        self.users += 1
        self.world.at(moment, self.fate, lambda: self._give(machine, space, retry_failed))

    def _give(self, machine: Machine, space: Space, retry_failed: bool) -> None:
        """Give a command until it has ended well."""
        for _ in range(_TRIES):
            if machine not in self.machines:
                machine = self._machine()  # the other is gone for good
            command = Command(self.day, machine, space=space, retry_failed=retry_failed)
            command.process.ended.wait()
            self._judge(command)
            if command.process.exitcode == 0:
                break
            self.world.pause(self.world.random.uniform(1, 90))
        else:
            self.day.broken(f"a command failed {_TRIES} times: {command.process.error!r}")
        self.users -= 1

    def _judge(self, command: Command) -> None:
        error = command.process.error
        day = self.day
        if command.process.exitcode == 0:
            self._judge_end()
        if error is None or command.process.exitcode == -9 or is_away(error):
            pass
        elif isinstance(error, KeyboardInterrupt):
            if command not in self.interrupted:
                day.broken("a command ended as if it were interrupted")
        elif isinstance(error, UserError):
            last = max([moment for moment, _ in self.ends], default=0.0)
            in_a_row = sum(moment > last for moment in command.deaths)
            if "live" in str(error) and in_a_row <= bounds.DEATHS_IN_A_ROW * day.setting.workers:
                day.broken(f"a command gave up after {in_a_row} deaths in a row")
        else:
            day.broken(f"a command broke: {error!r}")
        for worker in command.workers:
            broke = worker.error
            is_excused = isinstance(broke, OSError) and "picture" not in str(broke)
            if broke is not None and not is_away(broke) and not is_excused:
                day.broken(f"{worker.name} broke: {broke!r}")

    def _judge_end(self) -> None:
        """Whether a command that ended well had a reason to leave some of the budget."""
        setting, trials = self.day.setting, self._trials()
        ends = sorted(self.ends)
        if (
            setting.settings.stop_after_no_improvement is None
            or len(budgeted(trials)) >= setting.budget
        ):
            return
        if not any(_is_stopped(setting, trials, ends[:n]) for n in range(1, len(ends) + 1)):
            self.day.broken("a search was stopped although it got better")

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

    def _kill_workers(self) -> None:
        """Several, one after another."""
        for n in range(self.world.random.randint(2, 5)):
            delay = n * self.world.random.uniform(0.2, 1.5) * self.day.setting.seconds
            self.lasts = max(self.lasts, self.world.now + delay)
            self.world.at(self.world.now + delay, self.fate, self._kill_worker)

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

    def _deaf(self) -> None:
        self.day.server.deaf_until = self.world.now + self.world.random.uniform(1, 60)
        self.lasts = max(self.lasts, self.day.server.deaf_until)

    def _full(self) -> None:
        self.day.disk.full_until = self.world.now + self.world.random.uniform(1, 60)
        self.lasts = max(self.lasts, self.day.disk.full_until)

    def _clock(self) -> None:
        self.world.random.choice(self.machines).clock += self.world.random.uniform(-7200, 7200)

    def _second_command(self) -> None:
        machine = self.world.random.choice(self.machines)
        self._user(machine, self.world.now, self.day.setting.space)

    def _fewer_keys(self) -> None:
        space = self.day.setting.space
        if not self.day.setting.grid and not space.is_finite:
            fewer = Space(tuple(d for d in space.dimensions if d is RATES))
            if self.world.random.random() < 0.5:
                self._kill_all(self._machine())
            self._user(self._machine(), self.world.now, fewer)

    def _retry_failed(self) -> None:
        space = self.day.setting.space
        self._user(self._machine(), self.world.now, space, retry_failed=True)

    def _bad_start(self) -> None:
        self.day.start_faults = 0.8

        def end() -> None:
            self.day.start_faults = 0.0

        moment = self.world.now + self.world.random.uniform(1, 40)
        self.lasts = max(self.lasts, moment)
        self.world.at(moment, self.fate, end)

    def _pictures(self) -> None:
        self.day.picture_faults = 0.7

    def _interrupt(self) -> None:
        for command in self._some(self._commands()):
            self.interrupted.add(command)
            command.interrupt()

    # What must hold at every moment

    def _listen(self, process: Process, name: str, args: tuple[Any, ...]) -> None:
        memory, world = self.day.server.memory, self.world
        if name == "create_new_trial":
            world.note(f"{process.name} creates trial {len(self._trials()) - 1}")
            self.heard[self._trials()[-1]._trial_id] = world.now
        elif name == "set_trial_user_attr" and args[1] == LEASE:
            self.heard[args[0]] = world.now
        elif name == "set_trial_user_attr" and args[1] == ENDED:
            self.ends.append((world.now, args[0]))
        elif name == "set_trial_state_values":
            trial = memory.get_trial(args[0])
            world.note(f"{process.name} makes trial {trial.number} {args[1].name}")
            self._check_taker(process, trial)

    def _check_taker(self, process: Process, trial: FrozenTrial) -> None:
        lease = lease_of(trial)
        if not lease or trial.state == TrialState.RUNNING:
            return
        owner = self._process(lease)
        if owner is None or owner is process or not owner.is_alive:
            return
        heard = self.heard[trial._trial_id]
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


def _setting(world: World, space: str | None, patience: int | None) -> Setting:
    random = world.random
    kind = space or random.choice(("grid", "grid", "search", "search", "choice", "two"))
    spaces = {
        "grid": Space((SIZES, LISTED)),
        "search": Space((RATES,)),
        "choice": Space((SIZES, LISTED)),
        "two": Space((SIZES, RATES)),
    }
    grid = kind == "grid"
    n_trials = None if grid else random.randint(1, 4)
    if patience is None and kind in ("search", "two"):
        patience = random.choice((None, None, None, 2))
    settings = Settings(
        n_trials=n_trials if patience is None else 7,
        stop_after_no_improvement=patience,
        max_failure_rate=1.0,
        max_retries=random.choice((0, 2, 2, 2, 5)),
    )
    odd = random.random() < 0.4
    kinds = [random.choice(("", "", "fail", "nan", "bad")) if odd else "" for _ in range(5)]

    def behaviour(overrides: Any) -> str:
        return kinds[sum(map(ord, "".join(sorted(overrides)))) % 5]

    return Setting(
        spaces[kind], settings, grid, random.randint(2, 3), random.choice((2.0, 10.0, 40.0)),
        random.randint(1, 3), behaviour,
    )  # fmt: skip


def _check(
    day: Day, trials: list[FrozenTrial], ends: list[tuple[float, int]], retry_failed: bool
) -> None:
    """The promises, when all is over."""
    setting = day.setting
    for trial in trials:
        if not trial.state.is_finished():
            day.broken(f"trial {trial.number} stays {trial.state.name}")
    units = budgeted(trials)
    stopped = _is_stopped(setting, trials, ends)
    if len(units) > setting.budget or (len(units) < setting.budget and not stopped):
        day.broken(f"{len(units)} of {setting.budget} units of the budget were trained")
    cells = [t.user_attrs[CELL] for t in units if CELL in t.user_attrs]
    if setting.space.is_finite and len(set(cells)) != len(units):
        day.broken("a grid point was trained twice")
    if setting.grid and set(cells) != {point_name(*point) for point in Grid(setting.space)}:
        day.broken("a grid point was not trained")
    for trial in units:
        _check_unit(day, trial, retry_failed)
    for directory, record in day.disk.records.items():
        for fault in record.faults:
            day.broken(f"{directory}: {fault}")
        if record.finished > 1:
            day.broken(f"{directory}: was trained to its end {record.finished} times")
        if record.status == "completed" and not math.isnan(record.values[0]):
            number = int(directory.removeprefix("vae-"))
            chain = [t for t in trials if private.first_of(t) == number]
            if not any(t.values == list(record.values) for t in chain):
                day.broken(f"{directory}: its result was lost")


def _is_stopped(setting: Setting, trials: list[FrozenTrial], ends: list[tuple[float, int]]) -> bool:
    """Whether the last trials, in the order in which they truly ended, brought nothing better."""
    patience = setting.settings.stop_after_no_improvement
    if patience is None:
        return False
    order = {trial_id: place for place, (_, trial_id) in enumerate(sorted(ends))}
    kept = {t._trial_id for t in budgeted(trials)}
    ended = [t for t in trials if t._trial_id in kept and t._trial_id in order]
    ended = [t for t in ended if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    since, best = 0, -math.inf
    for trial in sorted(ended, key=lambda t: order[t._trial_id]):
        since += 1
        if trial.state == TrialState.COMPLETE and trial.values[0] > best:
            since, best = 0, trial.values[0]
    return since >= patience


def _check_unit(day: Day, trial: FrozenTrial, retry_failed: bool) -> None:
    setting, number = day.setting, trial.number
    behaviour = setting.behaviour(trial.user_attrs.get("overrides", ()))
    reason = str(trial.user_attrs.get(REASON))
    chain = [*private.history_of(trial), number]
    if trial.state == TrialState.FAIL:
        excused = {
            "fail": "asked to fail" in reason,
            "nan": "must be a number" in reason,
        }.get(behaviour, False)
        lost = "its worker died" in reason and len(chain) > setting.settings.max_retries
        if not excused and not lost:
            day.broken(f"trial {number} failed without need: {reason}")
    if trial.state == TrialState.COMPLETE:
        if reason != "None":
            day.broken(f"trial {number} is complete, with the reason {reason}")
        if set(trial.intermediate_values) != set(range(1, setting.epochs + 1)):
            day.broken(f"trial {number} lacks reports: {trial.intermediate_values}")
        record = day.disk.record(f"vae-{private.first_of(trial)}")
        was_continued = len(record.writers) > 1
        if behaviour in ("fail", "nan") or (behaviour == "bad" and not was_continued):
            day.broken(f"trial {number} is complete, which should {behaviour}")
