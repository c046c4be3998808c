"""How each process of a trial notices that another is gone.

Each writes its heartbeat into the common store. A process whose heartbeat stays the same for
`SILENCE_SECONDS` is taken for lost, also if its machine is gone or it is frozen; one on this
machine that ends is noticed at the next look, and mostly at once, since the others' connections to
it break.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from torch.distributed import Store  # type: ignore[attr-defined]

from experiments.errors import DiskFullError, TrialError, UserError
from experiments.machine.waits import scaled
from experiments.ranks.rendezvous import (
    COLLECTIVE_SECONDS,
    START_SECONDS,
    LostProcessError,
    disconnect,
)

HEARTBEAT_SECONDS = 0.5
"""Between two heartbeats of a process, and between two looks at the others'."""
SILENCE_SECONDS = 60.0
"""A process whose heartbeat stays away for so long is taken for lost."""
LEAVE_SECONDS = 20.0
"""For so long rank 0 may take to end in order, once another is lost; then it is ended."""

_SILENT = "it is silent for {:g} s"
_FAILURES = {"error": TrialError, "full": DiskFullError}
"""What a worker rank that fails may say in the store, as an error of rank 0's."""

assert 20 * HEARTBEAT_SECONDS < SILENCE_SECONDS < START_SECONDS < COLLECTIVE_SECONDS, (
    "a heartbeat that is late is no loss, and a loss is noticed before a wait for the lost one ends"
)


class Heartbeat(threading.Thread):
    """Writes this process's heartbeat and looks for the others': rank 0 for all, they for rank 0's.

    Args:
        store: of the trial; the thread has its own connection to it.
        rank: of this process.
        world: how many processes there are.
        processes: those that rank 0 has started, in the order of their ranks.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        processes: Sequence[subprocess.Popen[bytes]] = (),
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._store: Store = store.clone()  # type: ignore[attr-defined]
        self._rank, self._world = rank, world
        self._processes = processes
        self._over = threading.Event()
        self._count = 0
        self._heard: dict[int, bytes] = {}
        self._silent = dict.fromkeys(range(1, world) if rank == 0 else [0], 0)
        self.noticed = threading.Event()
        self.failure: UserError | None = None
        """Why the trial cannot go on, once that is known."""

    def stop(self) -> None:
        """Write and look no more."""
        self._over.set()

    def run(self) -> None:
        threading.Thread(target=self._look_on, name="looks", daemon=True).start()
        before, unanswered = 0, 0
        while not self._over.wait(scaled(HEARTBEAT_SECONDS)):
            # A look waits for ever where whoever has the store is frozen, or its machine gone.
            unanswered = unanswered + 1 if self._count == before else 0
            before = self._count
            if self.failure is None and unanswered * HEARTBEAT_SECONDS > SILENCE_SECONDS:
                self.failure = self._lost(0, _SILENT.format(scaled(SILENCE_SECONDS)))
            if self.failure is not None:
                self.noticed.set()
                self._leave()
                return

    def _look_on(self) -> None:
        """Look again and again, until something is wrong."""
        while self.failure is None and not self._over.wait(scaled(HEARTBEAT_SECONDS)):
            try:
                found = self._look()
            except (RuntimeError, ValueError) as error:  # the store is gone, and rank 0 with it
                found = self._lost(0, str(error).partition("\n")[0])
            self.failure = self.failure or found

    def _look(self) -> UserError | None:
        store = self._store
        self._count += 1
        store.set(f"heartbeat/{self._rank}", str(self._count))
        if self._rank > 0 and store.check(["ended"]):
            store.set(f"left/{self._rank}", "")
            os._exit(int(store.get("ended")))
        for name, kind in _FAILURES.items():
            if self._rank == 0 and store.check([name]):
                return kind(store.get(name).decode())
        for rank, process in enumerate(self._processes, 1):
            if process.poll() is not None:
                return self._lost(rank, _end_of(process))
        for rank in self._silent:
            if self._is_silent(rank):
                return self._lost(rank, _SILENT.format(scaled(SILENCE_SECONDS)))
        return None

    def _is_silent(self, rank: int) -> bool:
        """Counted in looks, so that nobody is lost who was frozen together with this process."""
        if not self._store.check([f"heartbeat/{rank}"]):
            return False  # it has not come yet
        heartbeat = self._store.get(f"heartbeat/{rank}")
        is_same = heartbeat == self._heard.get(rank)
        self._silent[rank] = self._silent[rank] + 1 if is_same else 0
        self._heard[rank] = heartbeat
        return self._silent[rank] * HEARTBEAT_SECONDS > SILENCE_SECONDS

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
            sys.stderr.write(f"error: {self.failure}\n")
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
