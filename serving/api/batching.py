"""Concurrent requests computed together.

While one batch is computed, what arrives waits; all of it is the next batch. So a lone request
waits for nobody, and many at once cost little more than one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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
    rows: Tensor
    answer: asyncio.Future[Tensor]


class Batcher:
    """Calls `work` with the rows of many callers at once, and gives each its own.

    Args:
        work: maps (N, ...) to (N, ...), row by row; one call at a time.
        most: rows in a call; a caller with more is alone in one.
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
        self._jobs: deque[_Job] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_row = 0.0

    @property
    def waiting(self) -> int:
        """Callers that wait now."""
        return len(self._jobs)

    async def __call__(self, rows: Tensor) -> Tensor:
        """The results (N, ...) of rows (N, ...).

        A caller that is cancelled takes its rows out of the queue.

        Raises:
            QueueFullError: as many callers wait as may.
        """
        if len(self._jobs) >= self._limit:
            rows_waiting = sum(len(job.rows) for job in self._jobs)
            raise QueueFullError(max(1, math.ceil(rows_waiting * self._seconds_per_row)))
        job = _Job(rows, asyncio.get_running_loop().create_future())
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
            batch = self._take()
            rows = torch.cat([job.rows for job in batch])
            started = time.perf_counter()
            try:
                found = await self._work(rows)
            except Exception as error:  # noqa: BLE001  # each caller gets it
                for job in batch:
                    if not job.answer.done():
                        job.answer.set_exception(error)
                continue
            self._seconds_per_row = (time.perf_counter() - started) / len(rows)
            self._observe(len(rows))
            for job, own in zip(batch, found.split([len(j.rows) for j in batch]), strict=True):
                if not job.answer.done():
                    job.answer.set_result(own)

    def _take(self) -> list[_Job]:
        batch = [self._jobs.popleft()]
        count = len(batch[0].rows)
        while self._jobs and count + len(self._jobs[0].rows) <= self._most:
            batch.append(self._jobs.popleft())
            count += len(batch[-1].rows)
        return batch
