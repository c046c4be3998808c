"""Rank 0's part: start the worker ranks, or join those of a launcher, and end with them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError, exit_status
from experiments.machine.loading import loading
from experiments.machine.parent import COMMAND
from experiments.machine.waits import scaled
from experiments.ranks.environment import Place, place, ranks_hidden

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from models.ranks.group import Ranks

_ROOT = Path(__file__).parents[2]
_SWEEPS = {"-m", "--multirun"}
_LOOK_SECONDS = 0.02
_REASON_SECONDS = 5.0
"""For so long a broken connection waits for its reason, which the heartbeat's thread finds."""

_joined: list[ProcessGroup] = []
"""The group of this process's launcher, if there is one."""


class ProcessGroup:
    """The processes of a trial, for rank 0.

    Args:
        place: of rank 0.
        store: the trial's.
        processes: the worker ranks, if this process has started them.
    """

    def __init__(
        self,
        place: Place,
        store: Store,
        processes: Sequence[subprocess.Popen[bytes]] = (),
    ) -> None:
        from experiments.ranks.heartbeat import Heartbeat
        from models.ranks.group import Ranks

        self.place = place
        self.ranks: Ranks = Ranks(0, place.world)
        self._store, self._processes = store, processes
        self._heartbeat = Heartbeat(store, 0, place.world, processes)
        self._heartbeat.start()
        self._is_over = False

    @property
    def last_started(self) -> int:
        """The greatest rank that this process has started on its own machine."""
        return len(self._processes)

    @contextmanager
    def training(self, message: Mapping[str, Any], device: str) -> Iterator[None]:
        """A context in which all processes train; afterwards the others are gone.

        Args:
            message: what they train, see `experiments.ranks.worker_rank`.
            device: of this process.

        Raises:
            TrialError: another one failed, and says why.
            LostProcessError: another one is gone, or never came.
        """
        from experiments.ranks.rendezvous import LostProcessError, connect, disconnect, packed
        from models.ranks.group import LostRankError

        is_done = False
        try:
            self._store.set("message", packed(message))  # type: ignore[arg-type]
            self._wait_until_ready()
            connect(self._store, 0, self.place.world, device)
            yield
            is_done = True
        except LostRankError as error:
            self._heartbeat.noticed.wait(scaled(_REASON_SECONDS))
            raise self._heartbeat.failure or LostProcessError(
                f"the processes of a trial must reach each other, but got {error}"
            ) from error
        finally:
            disconnect(in_order=is_done)
            self.end(int(not is_done))

    def end(self, code: int) -> None:
        """Let the others end, with this exit status."""
        from experiments.ranks.heartbeat import LEAVE_SECONDS

        if self._is_over:
            return
        self._is_over = True
        self._heartbeat.stop()
        try:
            self._store.set("ended", str(code))
            if not self._processes:  # the store may be this process's
                left = [f"left/{rank}" for rank in range(1, self.place.world)]
                self._wait_for(left, LEAVE_SECONDS / 4)
        except RuntimeError:  # it is the launcher's, and gone
            pass
        _kill(self._processes)

    def _wait_until_ready(self) -> None:
        from experiments.ranks.rendezvous import START_SECONDS, LostProcessError

        others = range(1, self.place.world)
        if not self._wait_for([f"ready/{rank}" for rank in others], START_SECONDS):
            raise self._heartbeat.failure or LostProcessError(
                f"the {self.place.world} processes of a trial must be ready within "
                f"{scaled(START_SECONDS):g} s, but not all are; look at the others' machines, and "
                "give the same command again"
            )

    def _wait_for(self, keys: list[str], seconds: float) -> bool:
        """Whether the store has the keys in time, and nothing fails meanwhile."""
        end = time.monotonic() + scaled(seconds)
        while not self._store.check(keys):
            has_failed = self._heartbeat.failure is not None
            if has_failed or time.monotonic() > end:
                return False
            time.sleep(_LOOK_SECONDS)
        return True


@contextmanager
def joined(arguments: Sequence[str], *, in_sweep: bool) -> Iterator[None]:
    """For a command that a launcher starts several times: all its processes are of one trial.

    In rank 0 the context is around the command; the worker ranks train along and exit. Commands of
    a sweep stay several: each asks the study for trials.

    Args:
        arguments: the command's.
        in_sweep: whether it is a trial of somebody's sweep.
    """
    here = None if in_sweep or _SWEEPS & set(arguments) else place()
    if here is None:
        yield
        return
    if here.rank > 0:
        from experiments.ranks.worker_rank import run_worker_rank

        run_worker_rank(here)
    with ranks_hidden(), loading():
        from experiments.ranks.rendezvous import rendezvous
    group = ProcessGroup(here, rendezvous(here))
    _joined.append(group)
    code = 1
    try:
        yield
        code = 0
    except UserError as error:
        code = exit_status(error)
        raise
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    finally:
        _joined.clear()
        group.end(code)


@contextmanager
def process_group_of(config: Mapping[str, Any]) -> Iterator[ProcessGroup | None]:
    """The processes of a trial: a launcher's, or such as are started here; None for one.

    Args:
        config: of the trial.

    Raises:
        UserError: the launcher started another number of processes than the config says.
    """
    devices, nodes = config["trainer"]["devices"], config["trainer"]["nodes"]
    world = devices * nodes
    if _joined:
        (group,) = _joined
        if group.place.world != world:
            raise UserError(
                "`trainer.devices` x `trainer.nodes` must be the number of processes that "
                f"{group.place.launcher} starts for the trial, {group.place.world}, but got "
                f"{devices} x {nodes}; give trainer.devices={group.place.world} (or those of one "
                "machine, and trainer.nodes), or start one process"
            )
        yield group
    elif nodes > 1:
        raise UserError(
            "`trainer.nodes` must be 1 where nobody has started the processes of the other "
            f"machines, but got {nodes}; start the command by torchrun or srun"
        )
    elif world == 1:
        yield None
    else:
        with _started(world) as group:
            yield group


@contextmanager
def _started(world: int) -> Iterator[ProcessGroup]:
    """Processes on this machine, which this one starts and ends."""
    with ranks_hidden(), loading():
        from experiments.ranks.rendezvous import rendezvous
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    here = Place(0, world, 0, host, port, "the command")
    store = rendezvous(here, descriptor=listener.detach())
    with ExitStack() as stack:
        stack.enter_context(_on_loopback())
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, world):
                processes.append(_start(here, rank))  # noqa: PERF401  # those so far must end
            group = ProcessGroup(here, store, processes)
            stack.callback(group.end, 1)
            yield group
        finally:
            _kill(processes)


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the worker ranks at once: they write no record."""
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _start(here: Place, rank: int) -> subprocess.Popen[bytes]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": here.world}
    master = {"MASTER_ADDR": here.host, "MASTER_PORT": here.port}
    numbers = ranks | master | {COMMAND: os.getpid()}
    theirs = {"PYTHONPATH": os.pathsep.join(paths)} | {k: str(v) for k, v in numbers.items()}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.ranks"],
        env=inherited | theirs,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(said := tempfile.TemporaryFile()),  # noqa: SIM115  # a pipe could get full
        start_new_session=True,  # interrupts from the terminal are for rank 0
    )
    process.stderr = said
    return process


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Processes of one machine talk without its network, whose name may lead nowhere."""
    name = "GLOO_SOCKET_IFNAME"
    if name in os.environ or not hasattr(socket, "if_nameindex"):
        yield
        return
    os.environ[name] = next((n for _, n in socket.if_nameindex() if n.startswith("lo")), "lo")
    try:
        yield
    finally:
        del os.environ[name]
