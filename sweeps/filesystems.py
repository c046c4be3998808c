"""Which files SQLite's write-ahead log may be used for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}
"""File systems of one machine, on which the log's shared memory is known to work."""


def use_write_ahead_log(path: Path) -> None:
    """Let readers and a writer of a new SQLite file not wait for each other.

    The log needs memory that all processes share. Where the file system may belong to several
    machines, and for files that exist already, the journal mode stays as it is.
    """
    if (path.exists() and path.stat().st_size) or filesystem(path.parent) not in _LOCAL:
        return
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


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
