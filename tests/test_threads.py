"""How many threads a trial takes: on a simulated machine with others, and in real trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from experiments import threads as choosing
from experiments.errors import Interrupted
from experiments.machine import cores as measuring
from experiments.machine import device
from experiments.machine.cores import FreeCores, Sample, container_quota, cores, sample, threads_for
from experiments.record import read_result
from experiments.rerun import rerun
from experiments.trial import run_trial
from tests.conftest import Compose


class Machine:
    """Processors that processes share evenly; a process has threads that never rest."""

    def __init__(self, processors: int) -> None:
        self.processors, self.now = processors, 0.0
        self.threads: dict[str, float] = {}
        self._used: dict[str, float] = {}

    def pass_seconds(self, seconds: float) -> None:
        wanted = sum(self.threads.values())
        share = min(1.0, self.processors / wanted) if wanted else 0.0
        for name, count in self.threads.items():
            self._used[name] = self._used.get(name, 0.0) + count * share * seconds
        self.now += seconds

    def seen_by(self, name: str) -> Sample:
        return Sample(sum(self._used.values()), self._used.get(name, 0.0), self.processors)


class Training:
    """Begins with one thread, as while libraries are loaded, and then adapts."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine, self._name = machine, name
        self._free = FreeCores(lambda: machine.seen_by(name), lambda: machine.now)
        self.threads = 1
        machine.threads[name] = 1

    def choose(self) -> None:
        found = self._free.look()
        assert found is not None
        self._take(threads_for(found, most=self._machine.processors))

    def adapt(self) -> None:
        found = self._free.look_again()
        if found is not None:
            most = self._machine.processors
            self._take(threads_for(found, most=most, now=self.threads))

    def _take(self, threads: int) -> None:
        self.threads = self._machine.threads[self._name] = threads

    def end(self) -> None:
        self._machine.threads[self._name] = 0


def history(machine: Machine, *trainings: Training, seconds: int = 60) -> list[list[int]]:
    """The threads of the trainings after each second."""
    seen = []
    for _ in range(seconds):
        machine.pass_seconds(1.0)
        for training in trainings:
            training.adapt()
        seen.append([training.threads for training in trainings])
    return seen


def begun(machine: Machine, *names: str) -> list[Training]:
    trainings = [Training(machine, name) for name in names]
    machine.pass_seconds(2.0)
    for training in trainings:
        training.choose()
    return trainings


@pytest.mark.parametrize("processors", [1, 2, 4, 16])
@pytest.mark.parametrize("background", [0.0, 0.1, 0.25])
def test_alone_a_training_has_them_all_and_keeps_them(processors: int, background: float) -> None:
    machine = Machine(processors)
    machine.threads["system"] = background
    (training,) = begun(machine, "training")
    assert all(now == [processors] for now in history(machine, training))


@pytest.mark.parametrize(
    ("processors", "busy", "threads"),
    [(2, 1, 1), (2, 2, 1), (2, 8, 1), (4, 1, 3), (4, 2, 2), (4, 9, 1), (16, 1, 15), (16, 4, 12)],
)
@pytest.mark.parametrize("late", [False, True])
def test_beside_busy_processes_it_shares_no_processor_whoever_came_first(
    processors: int, busy: int, threads: int, late: bool
) -> None:
    machine = Machine(processors)
    if late:
        (training,) = begun(machine, "training")
        assert training.threads == processors
    machine.threads["others"] = busy
    if not late:
        (training,) = begun(machine, "training")
    assert all(now == [threads] for now in history(machine, training)[20:])
    machine.threads["others"] = 0
    assert all(now == [processors] for now in history(machine, training)[7:])


@pytest.mark.parametrize("together", [False, True])
def test_two_trainings_settle_at_one_thread_each_and_the_last_gets_both_cores(
    together: bool,
) -> None:
    machine = Machine(2)
    if together:
        one, two = begun(machine, "one", "two")
    else:
        (one,) = begun(machine, "one")
        history(machine, one, seconds=10)
        (two,) = begun(machine, "two")
    assert all(now == [1, 1] for now in history(machine, one, two)[10:])
    one.end()
    assert all(now == [2] for now in history(machine, two)[7:])


def test_on_many_cores_two_trainings_that_begin_together_share_them_without_swinging() -> None:
    machine = Machine(16)
    one, two = begun(machine, "one", "two")
    settled = history(machine, one, two)[20:]
    assert all(now == settled[0] for now in settled)
    assert sum(settled[0]) == 16


def test_a_load_at_the_edge_does_not_make_it_swing() -> None:
    machine = Machine(2)
    (training,) = begun(machine, "training")
    seen = []
    for load in (0.4, 0.5, 0.4, 0.35, 0.44, 0.5, 0.4):
        machine.threads["others"] = load
        seen += history(machine, training, seconds=8)[4:]
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes <= 1


def test_what_its_children_do_is_its_own() -> None:
    machine = Machine(2)
    (training,) = begun(machine, "training")
    machine.threads["training"] = 3  # a picture is drawn beside it
    machine.pass_seconds(4.0)
    training.adapt()
    assert training.threads == 2


def test_where_the_system_says_nothing_there_is_no_look() -> None:
    clock = iter(range(0, 100, 10))
    free = FreeCores(lambda: None, lambda: float(next(clock)))
    assert free.look() is None
    assert free.look_again() is None


def test_a_slow_look_is_taken_rarely() -> None:
    class Slow:
        now, looks = 0.0, 0

        def read(self) -> Sample:
            self.looks += 1
            self.now += 0.5  # thousands of processes
            return Sample(0.0, 0.0, 2)

    slow = Slow()
    free = FreeCores(slow.read, lambda: slow.now)
    for _ in range(1000):
        slow.now += 1.0
        free.look_again()
    assert slow.looks < 25


def test_a_processes_time_and_that_of_its_children_are_its_own() -> None:
    before = sample()
    assert before is not None, "Linux says"
    burn = "import time\nwhile time.process_time() < 0.5: pass\n"
    subprocess.run([sys.executable, "-c", burn], check=True)
    after = sample()
    assert after is not None
    assert after.own - before.own > 0.4
    assert after.busy - before.busy > 0.4
    assert after.processors == len(os.sched_getaffinity(0))


def test_a_system_that_refuses_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def refuse(**_: object) -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", refuse)
    assert sample() is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cgroup/cpu.max": "max 100000"}, None),
        ({"cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"cgroup/a/b/cpu.max": "400000 100000", "cgroup/a/cpu.max": "200000 100000"}, 2.0),
        ({"cgroup/a/b/c/cpu.max": "100000 100000"}, None),
        ({"cgroup/cpu/cpu.cfs_quota_us": "-1", "cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cgroup/cpu/a/b/cpu.cfs_quota_us": "300000",
          "cgroup/cpu/a/b/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cgroup/cpu.max": "nonsense"}, None),
    ],
)  # fmt: skip
def test_the_quota_of_a_container_is_that_of_its_group_and_all_above(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu,cpuacct:/a/b\n0::/a/b\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert container_quota(tmp_path) == quota


def test_a_quota_bounds_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "container_quota", lambda: 0.5)
    assert cores() == 1


Scripted = Callable[..., None]


class Script(FreeCores):
    """Looks that find what a test says; nothing more when that is used up."""

    def __init__(self, *found: float) -> None:
        self._found = list(found)

    def seconds(self) -> float:
        return 10.0

    def look(self) -> float | None:
        return self._found.pop(0) if self._found else None

    def look_again(self) -> float | None:
        return self.look()


class Threads:
    """PyTorch's number of threads, of which there is one: two would fight for a busy machine."""

    def __init__(self) -> None:
        self.count = 2

    def set(self, count: int) -> None:
        self.count = count

    def get(self) -> int:
        return self.count


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads()
    monkeypatch.setattr(torch, "set_num_threads", threads.set)
    monkeypatch.setattr(torch, "get_num_threads", threads.get)


@pytest.mark.usefixtures("pretended")
def test_commands_take_no_more_threads_than_they_are_granted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(64)
    monkeypatch.setattr(device, "cores", lambda: 2)
    device.take_threads()
    assert torch.get_num_threads() == 2
    device.take_threads(5)
    assert torch.get_num_threads() == 5, "a user's word stands"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """On a machine of two cores, the looks of the next trial find these free processors."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(choosing, "usual_threads", lambda: 2)
    monkeypatch.setattr(choosing, "cores", lambda: 2)

    def find(*free: float) -> None:
        monkeypatch.setattr("experiments.trial.FreeCores", lambda: Script(*free))

    yield find
    torch.set_num_threads(before)


def threads_of(directory: Path) -> tuple[int, list[list[int]]]:
    hardware = read_result(directory)["hardware"]
    return hardware["threads"], hardware["thread_changes"]


@pytest.mark.slow
def test_a_trial_notes_from_which_step_on_it_had_how_many_threads_and_a_rerun_has_the_same(
    tiny: Compose, tmp_path: Path, scripted: Scripted
) -> None:
    scripted(2.0, 1.0, 1.0, 2.0, 1.9, 0.3)
    run_trial(tiny("trainer.device=cpu"), tmp_path / "first", in_sweep=True)
    assert threads_of(tmp_path / "first") == (2, [[1, 1], [3, 2], [5, 1]])
    scripted(1.0, 1.0, 2.0)
    assert rerun(tmp_path / "first", tmp_path / "again") == []
    assert threads_of(tmp_path / "again") == threads_of(tmp_path / "first")
    assert rerun(tmp_path / "again", tmp_path / "third") == []
    assert threads_of(tmp_path / "third") == threads_of(tmp_path / "first")


@pytest.mark.slow
@pytest.mark.usefixtures("pretended")
def test_a_trial_that_goes_on_has_the_threads_of_its_checkpoint(
    tiny: Compose, tmp_path: Path, scripted: Scripted
) -> None:
    config = tiny("trainer.device=cpu", "max_epochs=3")
    scripted(2.0, 2.0, 1.0)
    with pytest.raises(Interrupted):
        run_trial(config, tmp_path / "a", in_sweep=True, resumable=True, should_stop=lambda: True)
    assert threads_of(tmp_path / "a") == (2, [[2, 1]])
    steps = read_result(tmp_path / "a")["steps"]
    torch.set_num_threads(2)
    scripted(1.0, 2.0)
    run_trial(config, tmp_path / "a", in_sweep=True, resumable=True)
    assert threads_of(tmp_path / "a") == (2, [[2, 1], [steps + 2, 2]])
    assert rerun(tmp_path / "a", tmp_path / "again") == []


@pytest.mark.slow
@pytest.mark.usefixtures("pretended")
def test_a_number_that_the_user_gives_is_kept(
    tiny: Compose, tmp_path: Path, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(1.0, 1.0, 1.0)
    run_trial(tiny("trainer.device=cpu", "trainer.threads=2"), tmp_path / "given", in_sweep=True)
    assert threads_of(tmp_path / "given") == (2, [])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    scripted(1.0, 1.0, 1.0)
    run_trial(tiny("trainer.device=cpu"), tmp_path / "environment", in_sweep=True)
    assert threads_of(tmp_path / "environment") == (2, [])


def test_what_is_loaded_already_begins_as_the_last_trial_found_the_machine(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(Script):
        def seconds(self) -> float:
            return 0.0

    monkeypatch.setattr(choosing.Threads, "latest", None)
    assert choosing.first_threads(None, Short(1.0)) == 2
    assert choosing.first_threads(None, Script(1.0)) == 1
    assert choosing.first_threads(None, Short(2.0)) == 1
    assert choosing.first_threads(2, Short(2.0)) == 2
