"""Concurrent requests computed together.

While one batch is computed, what arrives waits. So a lone request waits for nobody, and many at
once cost little more than one. Half of a batch is for who waits longest, the rest for those who
want least: who asks for one image waits for no hundreds of another's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Whose request is being answered; empty where nobody knows."""

_SHARE = 0.75  # of the places to wait, that one client may take


def is_full(waiting: Sequence[str], places: int) -> bool:
    """Whether there is no place to wait for the current client, given whose requests wait.

    No client gets all places, so that others find one.
    """
    client = CLIENT.get()
    has_share = client != "" and waiting.count(client) >= math.ceil(_SHARE * places)
    return len(waiting) >= places or has_share


class QueueFullError(Exception):
    """Too much is waiting.

    Attributes:
        retry_after: seconds until it is likely done.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(eq=False)  # tensors cannot be compared as a whole
class _Job:
    left: Tensor
    answer: asyncio.Future[Tensor]
    client: str
    done: list[Tensor] = field(default_factory=list)


class Batcher:
    """Calls `work` with the rows of many callers at once, and gives each its own.

    Args:
        work: maps (N, ...) to (N, ...), row by row; one call at a time.
        most: rows in a call; a caller with more has several.
        waiting: callers that may wait.
        observe: told the rows of every call.
    """

    def __init__(
        self,
        work: Callable[[Tensor], Awaitable[Tensor]],
        *,
        most: int,
        waiting: int,
        observe: Callable[[int], object],
    ) -> None:
        self._work = work
        self._most = most
        self._limit = waiting
        self._observe = observe
        self._jobs: list[_Job] = []
        self._running: list[_Job] = []
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_row = 0.0

    @property
    def waiting(self) -> int:
        """Callers that wait now, and have nothing yet."""
        return len(self._waiting)

    @property
    def _waiting(self) -> list[str]:
        """Whose they are."""
        return [j.client for j in self._jobs if not j.done and j not in self._running]

    async def __call__(self, rows: Tensor) -> Tensor:
        """The results (N, ...) of rows (N, ...).

        A caller that is cancelled takes its rows out of the queue.

        Raises:
            QueueFullError: as many callers wait as may, of the current client or of all.
        """
        if is_full(self._waiting, self._limit):
            rows_waiting = sum(len(job.left) for job in self._jobs)
            raise QueueFullError(max(1, math.ceil(rows_waiting * self._seconds_per_row)))
        job = _Job(rows, asyncio.get_running_loop().create_future(), CLIENT.get())
        self._jobs.append(job)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        try:
            return await job.answer
        finally:
            if job in self._jobs:
                self._jobs.remove(job)

    async def _run(self) -> None:
        while self._jobs:
            parts = self._take()
            self._running = [job for job, _ in parts]
            rows = torch.cat([job.left[:count] for job, count in parts])
            started = time.perf_counter()
            try:
                found = await self._work(rows)
            except Exception as error:  # noqa: BLE001  # each caller gets it
                for job in self._running:
                    self._end(job, error)
                continue
            self._seconds_per_row = (time.perf_counter() - started) / len(rows)
            self._observe(len(rows))
            own = found.split([count for _, count in parts])
            for (job, count), result in zip(parts, own, strict=True):
                job.left = job.left[count:]
                job.done.append(result)
                if not len(job.left):
                    self._end(job, torch.cat(job.done))
        self._running = []

    def _end(self, job: _Job, result: Tensor | Exception) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        if job.answer.done():  # cancelled
            return
        if isinstance(result, Exception):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)

    def _take(self) -> list[tuple[_Job, int]]:
        """Who gets how many rows computed next."""
        first, *others = self._jobs
        counts = {id(first): min(len(first.left), max(1, self._most // 2))}
        room = self._most - counts[id(first)]
        for job in (*sorted(others, key=lambda job: len(job.left)), first):
            more = min(len(job.left) - counts.get(id(job), 0), room)
            if more:
                counts[id(job)] = counts.get(id(job), 0) + more
                room -= more
        return [(job, counts[id(job)]) for job in self._jobs if id(job) in counts]
