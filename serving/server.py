"""The HTTP server: uvicorn, with bounds on connections, on silence, on its log and on its end."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.api.settings import Settings

SILENCE_SECONDS = 15
"""A client may let so much pass before a request has come, and before its answer is taken."""
GRACE_SECONDS = 5
"""Beyond the time of a request, that running ones get when the service is told to end."""
END_SECONDS = 15
"""Beyond the time of a request, after which the service has ended, whatever it did."""

_HEADER_BYTES = 16 * 2**10
_BACKLOG = 128  # as many are taken at once, before one can be refused
_FILES = 256  # beside those of connections: uploads, pipes, the model

_SWITCH_SECONDS = 0.001  # a fifth of Python's, so that a small request passes a large answer

_LINES = 10
_LINES_SECONDS = 60
_KINDS = 100


_LIBRARY = ctypes.CDLL(None)
_TRIM = getattr(_LIBRARY, "malloc_trim", None)
"""The GNU C library's: gives back what is free, which it does by itself at the heap's end only."""
_ARENA_MAX = -8  # of its mallopt(3)
_ARENAS = 2  # else each thread keeps what it had once needed


class Connection(H11Protocol):
    """A client's connection, which makes room for others while it only waits.

    uvicorn's own limit counts idle connections, and so lets them keep everybody out; and its own
    time limit begins with the first answer.
    """

    most = 512
    since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        if len(self.connections) > self.most:
            waiting = [c for c in self.connections if isinstance(c, Connection) and c.is_waiting]
            min(waiting, key=lambda c: c.since, default=self).drop()

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()

    @property
    def is_waiting(self) -> bool:
        """For its client: to send a request, or to take an answer."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def drop(self) -> None:
        """Hang up, whatever is still unsent."""
        self.connections.discard(self)
        self.transport.abort()


class Server(uvicorn.Server):
    """One that drops silent clients, and ends in time.

    Args:
        config: of uvicorn.
        seconds: that a request may take.
    """

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds = seconds

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # a second
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                cycle, silent = connection.cycle, now - connection.since
                idle = cycle is None or cycle.response_complete
                if silent > SILENCE_SECONDS and (
                    # One with a request has its time from the guard.
                    idle or (connection.transport.is_closing() and silent > 2 * self._seconds)
                ):
                    connection.drop()
        if counter % 50 == 0 and _TRIM is not None:
            await asyncio.to_thread(_TRIM, 0)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        timer = threading.Timer(self._seconds + END_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)


def run(app: ASGIApp, listener: socket.socket, settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    Connection.most = _connections(settings.max_connections)
    sys.setswitchinterval(_SWITCH_SECONDS)
    if _TRIM is not None:
        _LIBRARY.mallopt(_ARENA_MAX, _ARENAS)
    # uvicorn ends running requests, then raises the signal again: that end is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=int(settings.timeout) + GRACE_SECONDS,
        timeout_keep_alive=SILENCE_SECONDS,
    )
    Server(config, settings.timeout).run(sockets=[listener])


def _connections(wanted: int) -> int:
    """As many as this process may have files for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _BACKLOG + _FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - _BACKLOG - _FILES)


class Seldom(logging.Filter):
    """Lets few lines of a kind pass in a minute, and says how many it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._seen: Counter[Any] = Counter()
        self._left = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if time.monotonic() - self._began > _LINES_SECONDS:
            self._began = time.monotonic()
            self._seen.clear()
        kind = (record.name, record.levelno, str(record.msg)[:200])
        if kind not in self._seen and len(self._seen) >= _KINDS:
            kind = ("", 0, "")
        self._seen[kind] += 1
        if self._seen[kind] > _LINES:
            self._left += 1
            return False
        if self._left:
            record.msg = f"{record.msg} (before it, {self._left} lines like others were left out)"
            self._left = 0
        return True


def log_seldom() -> None:
    """Log lines as they are to stderr, few of a kind."""
    handler = logging.StreamHandler()
    handler.addFilter(Seldom())
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
