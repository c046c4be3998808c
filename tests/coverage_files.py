"""Coverage's data files of processes that a test has killed."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def discard_broken(directory: Path) -> None:
    """Remove those that were cut off while they were written, which coverage cannot combine.

    It writes them without a journal, so that a `kill -9` in the middle leaves a broken database.
    """
    for path in directory.glob(".coverage.*"):
        if not _is_whole(path):
            path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
