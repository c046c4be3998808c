"""What the protocol needs of a machine: its clock, its processes, its threads.

The protocol asks for nothing but this, the storage and a lock, so that a simulation can be all of
them (see tests/simulation).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from experiments.record.membership import is_finished, membership, result_in

Process = Mapping[str, Any]
"""A process as a lease names it: host, machine, boot, namespace, pid, born."""


class Event(Protocol):
    """As `threading.Event`."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Thread(Protocol):
    """As `threading.Thread`, started."""

    def join(self, timeout: float | None = None) -> None: ...


class System(Protocol):
    """A machine, as one process sees it."""

    def elapsed(self) -> float:
        """Seconds of a clock that never goes back, and counts the sleep of a machine."""

    def utc(self) -> float:
        """Seconds since the epoch, by a clock that people may set."""

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""

    def random(self) -> float:
        """A number in [0, 1), so that processes which wait do not stay in step."""

    def event(self) -> Event:
        """A new flag for threads."""

    def mutex(self) -> AbstractContextManager[Any]:
        """A new lock for threads."""

    def start(self, target: Callable[[], None], name: str) -> Thread:
        """Run a function in a thread that ends with the process."""

    def this_process(self) -> Process:
        """The one that asks."""

    def is_gone(self, process: Process) -> bool:
        """Whether a process is known to have ended; False for what cannot be known from here."""

    def kill(self, process: Process) -> bool:
        """End another process, if that can be done from here; whether it is dead now."""

    def has_record(self, directory: str, number: int) -> bool:
        """Whether the finished record of a trial lies in a directory that can be seen from here.

        Args:
            directory: of the record.
            number: of the trial, the first of its chain of retries.
        """


class RealSystem:
    """The machine that runs this."""

    def elapsed(self) -> float:
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if clock is None else time.clock_gettime(clock)

    def utc(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random(self) -> float:
        return random.random()

    def event(self) -> Event:
        return threading.Event()

    def mutex(self) -> AbstractContextManager[Any]:
        return threading.Lock()

    def start(self, target: Callable[[], None], name: str) -> Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def this_process(self) -> Process:
        pid = os.getpid()
        return {**_machine(), "pid": pid, "born": born(pid)}

    def is_gone(self, process: Process) -> bool:
        return is_known_gone(process, _machine(), born)

    def kill(self, process: Process) -> bool:
        if any(process.get(key) != value for key, value in _machine().items()):
            return self.is_gone(process)
        if process["pid"] == os.getpid():
            return False
        try:
            if not self.is_gone(process):
                os.kill(process["pid"], signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        return True

    def has_record(self, directory: str, number: int) -> bool:
        result = result_in(Path(directory))
        of = membership(result) if result is not None else None
        return result is not None and is_finished(result) and of is not None and of.trial == number


REAL = RealSystem()


def is_known_gone(
    process: Process, here: Mapping[str, str], born: Callable[[int], str | None]
) -> bool:
    """Whether a process has ended, as far as that can be known on a machine.

    Args:
        process: any.
        here: host, machine, boot and namespace of the machine that asks.
        born: when the process of a number started there; None where there is none.
    """
    for key in ("host", "machine", "namespace"):
        if process.get(key) != here[key]:
            return False  # another machine, or a container with process numbers of its own
    if process["boot"] != here["boot"]:
        return bool(here["machine"])  # without an id it may be another machine of that name
    return bool(born(process["pid"]) != process["born"])


def _machine() -> dict[str, str]:
    """This machine since its last boot, and whose process numbers these are.

    Two machines may have one name, and a machine's boot id is another after each boot. Two
    containers may share a name, a machine and a boot; their process numbers are of their own.
    """
    return {
        "host": socket.gethostname(),
        "machine": _text("/etc/machine-id"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "namespace": _link("/proc/self/ns/pid"),
    }


def born(pid: int) -> str | None:
    """When a process started, in its machine's ticks, so that a number used again is noticed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything; a zombie (Z) is dead.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def is_stopped(pid: int | None) -> bool:
    """Whether a process does not run until somebody lets it go on (SIGSTOP)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
