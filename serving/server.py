"""The HTTP server: uvicorn, with bounds on connections, on silence, on its log and on its end."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from functools import partial
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.api.settings import Settings
from serving.monitoring.drift import client_of

SILENCE_SECONDS = 15
"""A client may let so much pass before a request has come, and before its answer is taken."""
GRACE_SECONDS = 5
"""Beyond the time of a request, that running ones get when the service is told to end."""
END_SECONDS = 15
"""Beyond the time of a request, after which the service has ended, whatever it did."""

_HEADER_BYTES = 16 * 2**10
# After which a request that has begun counts no more than none; a busy machine reads that late.
_STALLED_SECONDS = 5
BACKLOG = 128
"""Connections that are taken at once, before one can be refused."""
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


class _Parser(h11.Connection):
    """Reads no body that comes in chunks, which are one byte each if the client likes.

    The guard answers such a request by its header, and the connection ends.
    """

    _is_chunked = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self._is_chunked:
            return h11.PAUSED
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._is_chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event


class Connection(H11Protocol):
    """A client's connection, which makes room for others while its client has the next move.

    uvicorn's own limit counts idle connections, and so lets them keep everybody out; and its own
    time limit begins with the first answer.

    Attributes:
        owner: whose it is.
        idle_since: when it was opened, or when its last answer was given.
        heard: when something last came, or was taken.
    """

    owner = ""
    idle_since = heard = 0.0
    _unsent = 0
    _taken = 0.0  # when some of what is unsent last was, or when it began

    def __init__(self, *of_uvicorn: Any, most: int, **named: Any) -> None:
        super().__init__(*of_uvicorn, **named)
        self.conn = _Parser(h11.SERVER, _HEADER_BYTES)
        self._most = most

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.owner = client_of(self.client[0]) if self.client else ""
        self.idle_since = self.heard = time.monotonic()
        if len(self.connections) > self._most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        # In pieces, since a header may be as large as what is parsed at once.
        for at in range(0, len(data), _HEADER_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[at : at + _HEADER_BYTES])

    def on_response_complete(self) -> None:
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def is_silent(self, now: float) -> bool:
        """Whether its client has had the next move for too long; to be asked once a second.

        It is to send a request, or to take an answer. Who has a request has its time from the
        guard.
        """
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent < before:
            self.heard = now
        if self._unsent < before or not before:
            self._taken = now
        if self._unsent:  # whatever else it sends: that is no answer taken
            return now - self._taken > SILENCE_SECONDS
        return self.is_idle and now - self.idle_since > SILENCE_SECONDS

    def _make_room(self) -> None:
        """Drop another one whose client has the next move, or else this one.

        One of a client that has many, then the one that is silent longest, and last of all those
        whose request is on its way.
        """
        all_ = [c for c in self.connections if isinstance(c, Connection)]
        owned = Counter(c.owner for c in all_)
        now = time.monotonic()

        def is_missed(one: Connection) -> tuple[bool, bool, float]:
            is_sending = not one.is_idle and now - one.heard < _STALLED_SECONDS
            return owned[one.owner] <= self._most // 8, is_sending, one.heard

        others = (c for c in all_ if c is not self and c.is_waiting)
        min(others, key=is_missed, default=self).drop()

    @property
    def is_waiting(self) -> bool:
        """Whether its client has the next move."""
        has_to_take = bool(self.transport.get_write_buffer_size())
        return self.is_idle or self.cycle.more_body or has_to_take

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
                if connection.is_silent(now):
                    connection.drop()
        if counter % 50 == 0 and _TRIM is not None:
            await asyncio.to_thread(_TRIM, 0)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        timer = threading.Timer(self._seconds + END_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)


def prepare(app: ASGIApp, settings: Settings) -> Server:
    """A server that SIGTERM and Ctrl-C end, from now on."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    if _TRIM is not None:
        _LIBRARY.mallopt(_ARENA_MAX, _ARENAS)
    config = uvicorn.Config(
        app,
        http=partial(Connection, most=_connections(settings.max_connections)),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="error",  # below, what strangers send
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.timeout) + GRACE_SECONDS,
        timeout_keep_alive=SILENCE_SECONDS,
    )
    server = Server(config, settings.timeout)
    # While it runs, uvicorn has them; then it raises them again, and that end is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    return server


def _connections(wanted: int) -> int:
    """As many as this process may have files for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + BACKLOG + _FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - BACKLOG - _FILES)


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
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # the client is told
    handler.addFilter(Seldom())
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
