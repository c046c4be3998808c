"""Interrupts of a command: the first one asks the workers to stop, the second one ends them."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeps.study.command import Supervisor

log = logging.getLogger(__name__)


@contextmanager
def interruptible(supervisor: Supervisor) -> Iterator[None]:
    """The first interrupt asks the workers to stop; the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if supervisor.interrupted is not None:
            supervisor.end()
            raise KeyboardInterrupt
        supervisor.interrupted = signal.Signals(number)
        log.info(
            "stopping: running trials end their epoch and write a checkpoint; again to stop at once"
        )

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
