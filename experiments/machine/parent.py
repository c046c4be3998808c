"""A process that must not outlive the one that started it, however that one ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND = "VAESWEEP_COMMAND"
"""Environment variable: process number of the command that started this process."""
_LOOK_SECONDS = 0.2


@contextmanager
def ending_with_command() -> Iterator[None]:
    """A context in which this process ends as soon as its command is gone.

    The number comes from the command: were it asked for here, the command might have ended already.
    """
    command, is_over = int(os.environ[COMMAND]), threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            if os.getppid() != command:
                os._exit(1)

    thread = threading.Thread(target=look, name="command", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
