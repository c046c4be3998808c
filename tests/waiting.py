"""How tests wait: for what must come, however long a busy machine takes to bring it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 600
"""Seconds after which a wait is taken to be one for ever; what passes never waits so long."""


def wait_until(
    holds: Callable[[], bool], process: subprocess.Popen[Any], said: Callable[[], object]
) -> None:
    """Wait for what a process brings about; `said` tells why it did not."""
    end = time.monotonic() + PATIENCE
    while not holds():
        is_over = process.poll() is not None or time.monotonic() > end
        if is_over and not holds():  # which its last deed may have brought about
            raise AssertionError(f"it never came, but the process said: {said()}")
        time.sleep(0.05)
