"""Where the processes of a trial meet, and how each notices that another is gone.

Each writes a sign of life into a common store. Whoever does not for `SILENCE_SECONDS` is taken for
lost, also if its machine is gone or its process is frozen; one on this machine that ends is noticed
at the next look, and mostly at once, since the others' connections to it break.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from experiments.errors import Interrupted, TrialError, UserError
from experiments.machine.waits import scaled
from experiments.ranks.environment import Place
from models.ranks.group import answered

LOOK_SECONDS = 0.5
"""Between two signs of life of a process, and between two looks at the others."""
SILENCE_SECONDS = 60.0
"""Of a process, after which it is taken for lost."""
LEAVE_SECONDS = 20.0
"""For so long rank 0 may take to end in order, once another is lost; then it is ended."""
START_SECONDS = 300.0
"""For so long the processes wait for each other at the start."""
COLLECTIVE_SECONDS = 1800.0
"""For so long the others wait for rank 0, alive, to write and report between two steps."""

assert 20 * LOOK_SECONDS < SILENCE_SECONDS < START_SECONDS < COLLECTIVE_SECONDS, (
    "a look that is late is no loss, and a loss is noticed before a wait for the lost one ends"
)


class LostProcessError(Interrupted, UserError):
    """A process of the trial is gone; the trial can be continued."""


def meet(place: Place, *, descriptor: int | None = None) -> Store:
    """The store that all processes of the trial share.

    Args:
        place: of this process.
        descriptor: of a socket that listens on the port, on which rank 0 is to wait.
    """
    store = TCPStore(
        place.host,
        place.port,
        is_master=place.rank == 0 and not place.hosted,
        timeout=timedelta(seconds=scaled(START_SECONDS)),
        wait_for_workers=False,
        master_listen_fd=descriptor,
    )
    return PrefixStore(f"vaesweep/{place.attempt}", store)


def connect(store: Store, rank: int, world: int, device: str) -> None:
    """Let the processes compute together: over NCCL on GPUs, over Gloo elsewhere."""
    is_gpu = device.startswith("cuda")
    if is_gpu:
        torch.cuda.set_device(device)
    with answered():
        distributed.init_process_group(
            "nccl" if is_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=scaled(COLLECTIVE_SECONDS)),
        )


def disconnect(*, in_order: bool) -> None:
    """End what `connect` began; if not all processes do so now, without waiting for them."""
    if not distributed.is_initialized():
        return
    if in_order or distributed.get_backend() == "gloo":
        distributed.destroy_process_group()
    else:
        distributed.distributed_c10d._abort_process_group()


def packed(message: Mapping[str, Any]) -> bytes:
    """Plain values and tensors as bytes, which `unpacked` reads without running code."""
    buffer = io.BytesIO()
    torch.save(dict(message), buffer)
    return buffer.getvalue()


def unpacked(message: bytes) -> dict[str, Any]:
    """What `packed` was given."""
    values: dict[str, Any] = torch.load(io.BytesIO(message), weights_only=True)
    return values


class Watch(threading.Thread):
    """Gives signs of life, and looks for those of the others: rank 0 at all, the others at rank 0.

    Args:
        store: of the trial; the thread has its own connection to it.
        rank: of this process.
        world: how many there are.
        processes: those that rank 0 has started, in the order of their ranks.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        processes: Sequence[subprocess.Popen[bytes]] = (),
    ) -> None:
        super().__init__(name="ranks", daemon=True)
        self._store: Store = store.clone()  # type: ignore[attr-defined]
        self._rank, self._world = rank, world
        self._processes = processes
        self._over = threading.Event()
        self._beats = 0
        self._heard: dict[int, bytes] = {}
        self._silent = dict.fromkeys(range(1, world) if rank == 0 else [0], 0)
        self.noticed = threading.Event()
        self.loss: UserError | None = None
        """Why the trial cannot go on, once that is known."""

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def run(self) -> None:
        while not self._over.wait(scaled(LOOK_SECONDS)):
            try:
                self.loss = self._look()
            except (RuntimeError, ValueError) as error:  # the store is gone, and rank 0 with it
                self.loss = self._lost(0, str(error).partition("\n")[0])
            if self.loss is not None:
                self.noticed.set()
                self._leave()
                return

    def _look(self) -> UserError | None:
        store = self._store
        self._beats += 1
        store.set(f"beat/{self._rank}", str(self._beats))
        if self._rank > 0 and store.check(["ended"]):
            store.set(f"left/{self._rank}", "")
            os._exit(int(store.get("ended")))
        if self._rank == 0 and store.check(["error"]):
            return TrialError(store.get("error").decode())
        for rank, process in enumerate(self._processes, 1):
            if process.poll() is not None:
                return self._lost(rank, _end_of(process))
        for rank in self._silent:
            if self._is_silent(rank):
                return self._lost(rank, f"it is silent for {scaled(SILENCE_SECONDS):g} s")
        return None

    def _is_silent(self, rank: int) -> bool:
        """Counted in looks, so that nobody is lost who was frozen together with this process."""
        if not self._store.check([f"beat/{rank}"]):
            return False  # it has not come yet
        beat = self._store.get(f"beat/{rank}")
        self._silent[rank] = self._silent[rank] + 1 if beat == self._heard.get(rank) else 0
        self._heard[rank] = beat
        return self._silent[rank] * LOOK_SECONDS > SILENCE_SECONDS

    def _lost(self, rank: int, why: str) -> LostProcessError:
        return LostProcessError(
            f"the {self._world} processes of a trial must live to its end, but number {rank} (from "
            f"0) is lost: {why}"
        )

    def _leave(self) -> None:
        """End this process, if it does not end by itself: it may wait for the lost one for ever."""
        if self._rank == 0:
            for process in self._processes:
                process.kill()  # which ends what this one waits for
            if self._over.wait(scaled(LEAVE_SECONDS)):
                return
            with suppress(Exception):  # NCCL waits until it is told not to
                disconnect(in_order=False)
            if self._over.wait(scaled(LEAVE_SECONDS)):
                return
            sys.stderr.write(f"error: {self.loss}\n")
            sys.stderr.flush()
        os._exit(1)


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """How a process that rank 0 started has ended, with the last that it said."""
    code = process.returncode
    how = f"signal {-code} ended it" if code < 0 else f"it ended with {code}"
    if process.stderr is None:
        return how
    process.stderr.seek(0)
    said = process.stderr.read().decode(errors="replace").strip()
    return f"{how}: {said[-2000:]}" if said else how
