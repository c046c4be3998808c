"""The cores that this process may use, and those that others leave free.

PyTorch's threads wait for each other at the end of every operation, and wait by spinning. Where
they share a core with somebody's process, all of them wait for the one that is not running:
measured on two cores, a training takes 3.3 times as long beside one busy process with two threads
and 1.7 times as long with one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 3.0  # between two looks
_COST = 0.01  # of the time, at most, is spent on looking
# A system is never quite still. Two bounds, so that a load between them changes nothing.
_KEPT = 0.45  # of a core: so much of others' work lets a thread stay
_GIVEN_BACK = 0.3  # so little lets one come back


def cores() -> int:
    """Of the machine, or of the part of it that this process may use.

    Which is what its affinity, SLURM's allotment and its container's quota leave of it.
    """
    bounds = [len(usable) if (usable := _affinity()) is not None else os.cpu_count() or 1]
    # Where SLURM does not bind jobs to cores, it says only here how many are the job's.
    allotted = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    if allotted:
        bounds.append(int(allotted))
    quota = container_quota()
    if quota is not None:
        bounds.append(max(1, math.floor(quota + 0.5)))
    return min(bounds)


def container_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that control groups grant this process; None without a bound.

    Every group above a process binds it. A container mostly sees its own group as the root.

    Args:
        root: of the file system; tests have their own.
    """
    groups = root / "sys/fs/cgroup"
    found = [_granted_v2(folder) for folder in _above(groups, _group(root, ""))]
    found += [_granted_v1(folder) for folder in _above(groups / "cpu", _group(root, "cpu"))]
    return min((quota for quota in found if quota is not None), default=None)


def _group(root: Path, controller: str) -> str:
    """The path of this process's group; a line is `number:controllers:path`."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "/"
    named = (line.split(":", 2) for line in lines if line.count(":") >= 2)
    return next((path for _, names, path in named if controller in names.split(",")), "/")


def _above(top: Path, group: str) -> list[Path]:
    folder = top / group.lstrip("/")
    return [folder, *(above for above in folder.parents if above == top or top in above.parents)]


def _granted_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _granted_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _affinity() -> set[int] | None:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


@dataclass(frozen=True)
class Sample:
    """Processor time at a moment, in seconds.

    Attributes:
        busy: that the processors on which this process may run have worked.
        own: that this process and its children have used.
        processors: how many those are.
    """

    busy: float
    own: float
    processors: int


def sample() -> Sample | None:
    """Of this machine, now; None where the system does not say."""
    import psutil

    try:
        times = psutil.cpu_times(percpu=True)
        usable = _affinity() or set(range(len(times)))
        busy = [_busy(one) for number, one in enumerate(times) if number in usable]
        return Sample(sum(busy), _own(), len(busy)) if busy else None
    except (OSError, psutil.Error, RuntimeError, NotImplementedError):
        return None


def _busy(times: Any) -> float:
    """Time taken from a processor by the host counts: it is not ours."""
    fields: dict[str, float] = times._asdict()
    still = ("idle", "iowait", "guest", "guest_nice")  # guests' is a part of user
    return sum(seconds for name, seconds in fields.items() if name not in still)


def _own() -> float:
    import psutil

    process = psutil.Process()
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += sum(one.cpu_times()[:4])  # its own, and those of its children that ended
        except psutil.Error:  # it has just ended; its parent's times have it now
            continue
    return total


class FreeCores:
    """What others use of the machine, looked at from time to time.

    Args:
        read: the processor times now; see `sample`.
        clock: seconds.
    """

    def __init__(
        self,
        read: Callable[[], Sample | None] = sample,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock = read, clock
        self._since, self._before = clock(), read()
        self._next = self._since + _SECONDS

    def seconds(self) -> float:
        """Since the last look."""
        return self._clock() - self._since

    def look(self) -> float | None:
        """Processors that are free of others' work, on average since the last look.

        None where the system does not say.
        """
        now, after = self._clock(), self._read()
        before, elapsed = self._before, now - self._since
        self._since, self._before = now, after
        self._next = now + max(_SECONDS, (self._clock() - now) / _COST)
        if before is None or after is None or elapsed <= 0:
            return None
        others = (after.busy - before.busy - (after.own - before.own)) / elapsed
        return after.processors - max(0.0, others)

    def look_again(self) -> float | None:
        """Like `look`; None also where the last look is not long enough ago."""
        return self.look() if self._clock() >= self._next else None


def threads_for(free: float, *, most: int, now: int | None = None) -> int:
    """How many threads get on best with so many free processors.

    One fewer than what would make them share a processor with others' work; a little of that is
    always there and does no harm.

    Args:
        free: processors without others' work.
        most: threads, where nobody else works.
        now: threads at present; None at the start.
    """

    def fit(ignored: float) -> int:
        return max(1, min(most, math.floor(free + ignored)))

    if now is None or fit(_KEPT) <= now:
        return fit(_KEPT)
    return max(now, fit(_GIVEN_BACK))
