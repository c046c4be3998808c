"""Mutual exclusion among all workers of a sweep, as far as their storage reaches."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.record.addresses import sqlite_file
from sweeps.bounds import LOCK_WAIT
from sweeps.storage.answers import refused
from sweeps.storage.databases import address, parsed
from sweeps.storage.retry import LockTimeoutError
from sweeps.storage.server_locks import server_lock

_POLL_SECONDS = 0.01
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What file systems without locks answer."""


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
        UserError: the storage does not answer, or its file system has no locks.
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


def is_certain(storage: str | Mapping[str, Any]) -> bool:
    """Whether the lock of a storage reaches all its workers and is never let go of meanwhile.

    That is so for SQLite, whose own locks need no less of its file system. A server that restarts
    lets go of all locks.
    """
    url = address(storage)
    return url is not None and url.startswith("sqlite")


def _beside(path: Path, name: str) -> Path:
    plain = re.sub(r"[^\w-]", "_", name)
    if plain != name:
        plain = f"{plain[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return path.with_name(f"{path.name}.{plain}.lock")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    # A new object each time, so that threads exclude each other too. Where the file system has no
    # locks, filelock would leave a file that outlives a killed worker.
    held = FileLock(path, timeout=LOCK_WAIT, poll_interval=_POLL_SECONDS, fallback_to_soft=False)
    try:
        path.parent.stat()  # which filelock would make
        held.acquire()
    except Timeout:
        raise LockTimeoutError(
            f"A worker must get the lock {path} within {LOCK_WAIT:g} s, but another one holds it; "
            "is a worker suspended?"
        ) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise refused(error, path) from None
        raise UserError(
            f"The sweep's storage must be where files can be locked, but {path} is on "
            f"{filesystem(path.parent) or 'a file system'} without locks ({error.strerror}); take "
            "a local disk, NFS 4, Lustre mounted with -o flock, or a server: "
            "hydra.sweeper.storage=postgresql://..."
        ) from None
    try:
        yield
    finally:
        held.release()


def filesystem(path: Path) -> str:
    """The type of the file system that holds a path; empty where that cannot be told."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    longest, found = "", ""
    for line in lines:
        mount, kind = line.split(" ")[1:3]
        mount = mount.replace("\\040", " ")
        if path.resolve().is_relative_to(mount) and len(mount) >= len(longest):
            longest, found = mount, kind
    return found
