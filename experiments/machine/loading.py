"""Loading and leaving large libraries without the garbage collector, which has no work there.

PyTorch and Lightning make objects by the million that live to the end. Looking through them again
and again while they load, and once more while Python ends, takes seconds.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """A context in which libraries are imported."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def leave_quickly() -> None:
    """Let this process end without a last look at every object; files are closed all the same."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
