"""Photos in requests, decoded by processes whose memory and time are bounded."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from experiments.data.decoding.decode import BadImageError
from serving.api.batching import CLIENT, QueueFullError, is_full
from serving.api.decoder import ANSWER, LENGTH, Kind
from serving.api.settings import Settings
from serving.model.checkpoints import Model

Read = Callable[[], bytes]
"""Gives a photo's bytes when its turn has come, so that those that wait take no memory."""

_FITS = ("crop", "pad", "squash")
_QUICK_MEBIBYTES = 16
_QUICK_BYTES = 4 * 2**20
_QUICK_SECONDS = 2
_LARGE_SECONDS = 5
_LARGE_WAITING = 8
_FIRST_SECONDS = 0.5  # that one takes, while none has been seen
_FORGETS = 0.9  # of the longest that one took, when the next has been seen


log = logging.getLogger(__name__)


class Decoders:
    """The processes: some for photos that take little, and one for large photos.

    So that large ones, of which one is decoded at a time, are waited for by each other only.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        channels, size, _ = model.network.image_shape
        self._shape = (channels, size, size)
        self._mebibytes = settings.max_decode_mebibytes
        fit = model.trained.fit if model.trained is not None else ""
        if fit not in _FITS:  # a record may say anything
            if fit:
                log.warning("photos are cropped, since the record's `data.fit` is %.100a", fit)
            fit = "crop"
        common = [f"--size={size}", f"--channels={channels}", f"--fit={fit}"]
        common += [f"--max-pixels={settings.max_pixels}"]
        quick = ["--forecast", f"--seconds={_QUICK_SECONDS}"]
        quick += [f"--mebibytes={min(_QUICK_MEBIBYTES, self._mebibytes)}"]
        large = [f"--seconds={_LARGE_SECONDS}", f"--mebibytes={self._mebibytes}"]
        few = min(_QUICK_BYTES, settings.max_bytes)
        limit = settings.timeout
        self._quick = _Lane(
            [*common, *quick], few, processes=2, waiting=settings.queue, seconds=limit
        )
        self._large = _Lane(
            [*common, *large], settings.max_bytes, processes=1, waiting=_LARGE_WAITING,
            seconds=limit,
        )  # fmt: skip

    async def decode(self, read: Read) -> Tensor:
        """The image (C, H, W), uint8, of a photo.

        Raises:
            BadImageError: it is no image, broken, too large, or takes too long.
            QueueFullError: too many photos wait.
        """
        kind, content = await self._quick(read)
        if kind == Kind.TOO_MUCH:
            kind, content = await self._large(read)
        if kind == Kind.TOO_MUCH:
            raise BadImageError(
                f"it needs more than {self._mebibytes} MiB of memory to be decoded; make it smaller"
            )
        if kind == Kind.REFUSED:
            raise BadImageError(content.decode())
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(self._shape)

    @property
    def processes(self) -> list[int]:
        """Their numbers."""
        return [process.pid for lane in (self._quick, self._large) for process in lane.processes]

    def start(self) -> None:
        """Start the processes, so that the first photo need not wait for them."""
        for lane in (self._quick, self._large):
            lane.start()

    def close(self) -> None:
        """End the processes; what is asked later starts others."""
        for lane in (self._quick, self._large):
            lane.end()


class _Turns:
    """Lets some work at once, and clients that wait take turns, so that none waits for all of one.

    Args:
        most: that work at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._working: list[str] = []  # whose they are
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []  # in the order of their turns

    @property
    def clients(self) -> list[str]:
        """Whose work is under way or waits."""
        return [*self._working, *(client for client, _ in self._waiting)]

    def before(self, client: str) -> int:
        """How many work, or wait for an earlier turn than one of a client that comes now."""
        own = self.clients.count(client)
        seen, place = Counter(self._working), 0
        for at, (other, _) in enumerate(self._waiting, 1):
            seen[other] += 1
            if seen[other] <= own + 1:
                place = at
        return len(self._working) + place

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for the current client's turn, and give the next one its own at the end."""
        client = CLIENT.get()
        turn = (client, asyncio.get_running_loop().create_future())
        self._waiting.insert(self.before(client) - len(self._working), turn)
        try:
            self._begin()
            await turn[1]
            yield
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._working.remove(client)
                self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._working) < self._most:
            client, turn = self._waiting.pop(0)
            self._working.append(client)
            if not turn.done():
                turn.set_result(None)


class _Lane:
    """Threads, each of which hands one photo at a time to a process.

    Args:
        options: of the processes.
        max_bytes: of a photo.
        processes: how many.
        waiting: photos that may wait.
        seconds: that a photo may take, its wait included.

    Attributes:
        took: seconds that a photo takes, by those that took longest of late.
    """

    def __init__(
        self, options: list[str], max_bytes: int, *, processes: int, waiting: int, seconds: float
    ) -> None:
        self._command = [sys.executable, "-m", "serving.api.decoder", *options]
        self._command += [f"--max-bytes={max_bytes}"]
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="photos")
        self._most, self._limit = processes, processes + waiting
        self._turns = _Turns(processes)
        self._seconds, self.took = seconds, _FIRST_SECONDS
        self._idle: list[subprocess.Popen[bytes]] = []
        self.processes: set[subprocess.Popen[bytes]] = set()
        weakref.finalize(self, _end, self.processes)

    async def __call__(self, read: Read) -> tuple[Kind, bytes]:
        """What a process makes of a photo; who is cancelled has the process killed."""
        client = CLIENT.get()
        before = self._turns.before(client)
        until_free = before / self._most * self.took
        is_late = before >= self._most and until_free + self.took > self._seconds
        if is_full(self._turns.clients, self._limit) or is_late:
            raise QueueFullError(max(1, math.ceil(until_free)))
        job = _Job(read)
        async with self._turns.taken():
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, partial(self._work, job))
            finally:
                job.cancel()

    def start(self) -> None:
        while len(self.processes) < self._most:
            self._idle.append(self._begun())

    def end(self) -> None:
        self._idle.clear()
        _end(self.processes)

    def _begun(self) -> subprocess.Popen[bytes]:
        # One arena and no growing threshold, so that what is freed is given back.
        own = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
        own |= {"OPENBLAS_NUM_THREADS": "1", "VAESWEEP_TOKEN": ""}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **own},
            start_new_session=True,  # Ctrl-C is for the service, which ends them
        )
        self.processes.add(process)
        return process

    def _work(self, job: _Job) -> tuple[Kind, bytes]:
        data = job.read()
        if len(data) > self._max_bytes:
            return Kind.TOO_MUCH, b""
        process = self._free()
        began = time.monotonic()
        try:
            if not job.begin(process):
                self._idle.append(process)
                return Kind.REFUSED, b""
            answer = _exchange(process, data)
            if not job.finish():
                raise EOFError
        except (OSError, EOFError):  # it died: of its limits, or by `cancel` or `end`
            job.finish()
            self.processes.discard(process)
            _end({process})
            return Kind.REFUSED, b"it takes too long to decode, or breaks the decoder"
        self._idle.append(process)
        self.took = max(time.monotonic() - began, _FORGETS * self.took)
        return answer

    def _free(self) -> subprocess.Popen[bytes]:
        while self._idle:
            process = self._idle.pop()
            if process.poll() is None:
                return process
            self.processes.discard(process)
            _end({process})
        return self._begun()


class _Job:
    """A photo that is waited for.

    Args:
        read: gives it.
    """

    def __init__(self, read: Read) -> None:
        self.read = read
        self._lock = Lock()
        self._is_over = False
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, process: subprocess.Popen[bytes]) -> bool:
        """Note who works on it; whether anybody still waits."""
        with self._lock:
            self._process = process
            return not self._is_over

    def finish(self) -> bool:
        """Note that nobody works on it any more; whether it was let end."""
        with self._lock:
            self._process = None
            return not self._is_over

    def cancel(self) -> None:
        """Kill the process that still works on it, if any."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._process.kill()


def _exchange(process: subprocess.Popen[bytes], data: bytes) -> tuple[Kind, bytes]:
    """Give a photo to a process and take the answer.

    Raises:
        OSError, EOFError: the process ended.
    """
    assert process.stdin is not None
    process.stdin.write(LENGTH.pack(len(data)))
    process.stdin.write(data)
    process.stdin.flush()
    kind, length = ANSWER.unpack(_exactly(process, ANSWER.size))
    return Kind(kind), _exactly(process, length)


def _exactly(process: subprocess.Popen[bytes], length: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _end(processes: set[subprocess.Popen[bytes]]) -> None:
    while processes:
        process = processes.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what it was never told
                pipe.close()
