"""A process that is told to end, ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_STATUS = 143
"""Of a process that SIGTERM ended."""
INTERRUPTED = 130
"""Of a process that was interrupted."""


def end_quietly() -> None:
    """Let an interrupt end this process at once, as long as it only loads; see `interruptible`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interruptible() -> None:
    """Let an interrupt be an exception again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: Any) -> None:
    os._exit(INTERRUPTED)


@contextmanager
def exits_told() -> Iterator[None]:
    """Around code from outside: that it calls `sys.exit` is a failure of its own.

    Raises:
        RuntimeError: it did.
        SystemExit: the process was told to end meanwhile.
    """
    try:
        yield
    except SystemExit as error:
        by_user = isinstance(error.__context__, KeyboardInterrupt)  # as Lightning ends then
        if by_user or error.code == EXIT_STATUS or type(error) is not SystemExit:
            raise
        raise RuntimeError(f"it calls sys.exit({error.code!r})") from error


@contextmanager
def sigterm_ends() -> Iterator[None]:
    """Turn SIGTERM into `SystemExit`, so that records and loggers are closed.

    Whoever takes the signal meanwhile (Lightning, between two steps) does so in this one's place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is end:
            raise SystemExit(EXIT_STATUS)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
