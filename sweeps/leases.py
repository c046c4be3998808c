"""Who trains a trial, and whether they still live.

Optuna's heartbeat works on its relational storages only and never with ask and tell. A lease
works on every storage: the worker's name and a counter that grows every few seconds, kept with
the trial. Whoever watches a trial takes it for abandoned if the process is on the same machine
and gone, or if the counter has not grown for `GRACE_SECONDS` of the watcher's own clock, so that
no two clocks need agree.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.attributes import LEASE

BEAT_SECONDS = 3.0
GRACE_SECONDS = 30.0
"""After which a trial whose worker is silent goes to another worker."""


def holder(worker: str) -> dict[str, Any]:
    """This process, as a lease names it."""
    pid = os.getpid()
    return {"worker": worker, "host": machine(), "pid": pid, "born": _born(pid), "beat": 0}


def machine() -> str:
    """This machine since its last boot; containers of one machine have names of their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}".strip()


def is_gone(lease: Mapping[str, Any]) -> bool:
    """Whether the process is known to have ended; False for one on another machine."""
    return bool(lease.get("host") == machine() and _born(lease["pid"]) != lease["born"])


def end(lease: dict[str, Any]) -> bool:
    """Kill the process, if it is another one on this machine; whether it is dead now."""
    if lease.get("host") != machine() or lease["pid"] == os.getpid():
        return False
    if not is_gone(lease):
        os.kill(lease["pid"], signal.SIGKILL)
    return True


class Lease:
    """Keeps a trial's lease alive in a thread, and looks whether to stop.

    Args:
        study: of the trial; its storage is used from the thread.
        worker: name of the worker.
        should_stop: asked at every beat.
    """

    def __init__(self, study: optuna.Study, worker: str, should_stop: Callable[[], bool]) -> None:
        self._study, self._holder = study, holder(worker)
        self._should_stop = should_stop
        self._trial: optuna.Trial | None = None
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self.stopping = threading.Event()
        if should_stop():  # before it began, as can be where workers queue
            self.stopping.set()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)
        self._thread.start()

    def take(self, trial: optuna.Trial) -> None:
        """Hold a trial from now on."""
        with self._writing:
            self._beat(trial)
            self._trial = trial

    def drop(self) -> None:
        """Hold no trial; nothing is written about the last one any more."""
        with self._writing:
            self._trial = None

    def end(self) -> None:
        """Stop beating."""
        self._ended.set()
        self._thread.join(timeout=BEAT_SECONDS)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                if self._should_stop():
                    self.stopping.set()
                with self._writing:
                    if self._trial is not None:
                        self._beat(self._trial)
            except Exception as error:  # noqa: BLE001
                # The trial may have just ended, or the storage may be away for a moment; if it
                # stays away, the trial itself will fail on it.
                optuna.logging.get_logger(__name__).debug("no beat: %s", error)

    def _beat(self, trial: optuna.Trial) -> None:
        self._holder["beat"] += 1
        trial.set_user_attr(LEASE, dict(self._holder))


class Watch:
    """Finds running trials whose worker is dead."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def abandoned(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Of the running trials among those given, the ones to take over."""
        now = time.monotonic()
        found = []
        running = {t.number: t for t in trials if t.state == TrialState.RUNNING}
        self._seen = {number: seen for number, seen in self._seen.items() if number in running}
        for number, trial in running.items():
            lease = trial.user_attrs.get(LEASE)
            mark = (lease or {}).get("worker"), (lease or {}).get("beat")
            known, since = self._seen.setdefault(number, (mark, now))
            if known != mark:
                self._seen[number] = (mark, now)
            elif now - since > GRACE_SECONDS or (lease is not None and is_gone(lease)):
                found.append(trial)
        return found


def _born(pid: int) -> str | None:
    """When a process started, in its machine's ticks, so that a number used again is noticed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything; a zombie (Z) is dead.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
