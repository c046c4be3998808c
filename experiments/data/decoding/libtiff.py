"""libtiff, which Pillow uses, writes to stderr on its own when a file is damaged."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silent_libtiff() -> Iterator[None]:
    """Keep libtiff's messages off the terminal; Pillow raises an error all the same.

    Pillow has no switch for it, so this is the C library's own, in the copy that Pillow has
    loaded. Without `/proc` (not Linux) nothing is changed.
    """
    library = _loaded_libtiff()
    if library is None:
        yield
        return
    set_handler = library.TIFFSetErrorHandler
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = set_handler(None)
    try:
        yield
    finally:
        set_handler(before)


def _loaded_libtiff() -> ctypes.CDLL | None:
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return None
    path = re.search(r"/\S*/libtiff[-.]\S*", maps)
    try:
        return ctypes.CDLL(path[0]) if path else None
    except OSError:  # replaced on disk since it was loaded
        return None
