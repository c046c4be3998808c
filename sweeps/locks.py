"""Mutual exclusion among all workers of a sweep, as far as their storage reaches."""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from experiments.addresses import sqlite_file
from sweeps.answers import answer
from sweeps.bounds import LOCK_WAIT
from sweeps.databases import address, parsed
from sweeps.retry import LockTimeoutError
from sweeps.server_locks import server_lock


def lock(
    storage: str | Mapping[str, Any], name: str, fallback: Path
) -> AbstractContextManager[None]:
    """Hold a lock that all workers with the same storage and name exclude each other by.

    It is the database's on PostgreSQL and MySQL; for a SQLite or journal file it is a locked
    file beside it, which reaches as far as the file system's locks do; for every other storage
    (gRPC, classes of the user) it is the file `fallback`, so only workers that share that file
    system exclude each other: see `excludes_all`. It is released when the process dies. A worker
    must not take a lock that it holds.

    Raises:
        LockTimeoutError: the others did not release it within `LOCK_WAIT`.
        UserError: the storage does not answer.
    """
    url = address(storage)
    if url is None or url.startswith("grpc://"):
        return _file_lock(fallback)
    if url.startswith("journal://"):
        return _file_lock(_beside(Path(url.removeprefix("journal://")), name))
    database = parsed(url)
    path = sqlite_file(database)
    if path is not None:
        return _file_lock(_beside(path, name))
    return server_lock(url, name, LOCK_WAIT)


def excludes_all(storage: str | Mapping[str, Any]) -> bool:
    """Whether the lock of a storage reaches all its workers, wherever they are."""
    url = address(storage)
    return url is not None and not url.startswith("grpc://")


def _beside(path: Path, name: str) -> Path:
    plain = re.sub(r"[^\w-]", "_", name)
    if plain != name:
        plain = f"{plain[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return path.with_name(f"{path.name}.{plain}.lock")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    import fcntl

    # Opened anew each time, so that threads exclude each other too. The file stays: whoever
    # removes it would let two workers lock two files of the same name.
    descriptor = answer(lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o666), path)
    try:
        end = time.monotonic() + LOCK_WAIT
        pause = 0.001
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise LockTimeoutError(
                        f"A worker must get the lock {path} within {LOCK_WAIT:g} s, but another "
                        "one holds it; is a worker suspended?"
                    ) from None
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 0.05)
        yield
    finally:
        # Unlocked by name: a process forked meanwhile has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
