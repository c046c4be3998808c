"""A process that is told to end, ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_STATUS = 143
"""Of a process that SIGTERM ended."""


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
        if error.code == EXIT_STATUS:
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
