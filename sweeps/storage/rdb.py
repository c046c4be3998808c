"""Optuna's storage in a relational database, opened by many workers at once."""

from __future__ import annotations

import os
import shlex
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.record.addresses import sqlite_file
from sweeps.storage import databases
from sweeps.storage.answers import answer, prompt_answer, redacted
from sweeps.storage.locks import filesystem, lock

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL, Connection

_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}
"""File systems of one machine, on which the log's shared memory is known to work."""

_TRIES, _PAUSE_SECONDS = 4, 0.2  # each of Optuna's steps may meet another's


def open_rdb(url: str, options: Mapping[str, Any], shown: Any) -> RDBStorage:
    """Open Optuna's `RDBStorage` and make its tables if they are missing.

    Args:
        url: of the database.
        options: other keyword arguments of `RDBStorage`.
        shown: the storage as the user wrote it, for messages.

    Raises:
        UserError: the database cannot be reached, written to or read, or its driver is missing.
    """
    database = databases.parsed(url)
    databases.check_driver(database, shown)
    options = dict(options)
    engine_options = databases.engine_options(database, options.pop("engine_kwargs", None))
    path = sqlite_file(database)
    if path is not None:
        check_directory(path.parent, shown)
    # Only a server can keep silent; a SQLite file that is busy takes its time.
    ask = prompt_answer if path is None else answer

    from optuna.storages import RDBStorage

    def build() -> RDBStorage:
        return RDBStorage(_template(database), engine_options, **options)

    if ask(lambda: _has_tables(database, engine_options), shown):
        storage = answer(build, shown)
    else:
        # Optuna looks for each table before it makes it; two workers at once collide.
        with lock(url, "tables", Path()):
            if path is not None:
                answer(lambda: _use_write_ahead_log(path), shown)
            storage = answer(lambda: _beside_others(build), shown)
    if path is not None:
        _wait_less_for_the_disk(storage, path)
    weakref.finalize(storage, databases.dispose, storage.engine, os.getpid())
    return storage


def _beside_others(build: Callable[[], RDBStorage]) -> RDBStorage:
    """Build where what knows no lock of ours, such as Optuna's dashboard, may make tables too."""
    from sqlalchemy.exc import DBAPIError

    for _ in range(_TRIES - 1):
        with suppress(DBAPIError):
            return build()
        time.sleep(_PAUSE_SECONDS)
    return build()


def check_directory(directory: Path, shown: Any) -> None:
    """Raise a `UserError` where the directory of a storage's file is missing."""
    if not directory.is_dir():
        raise UserError(
            f"A storage in a file needs a directory that exists, but got {redacted(shown)}; "
            f"mkdir -p {shlex.quote(str(directory))}"
        )


def _wait_less_for_the_disk(storage: RDBStorage, path: Path) -> None:
    """Wait until the disk has what was written when trials begin, end or change hands only.

    A log that is not waited for loses nothing when a process is killed, and stays whole after a
    power cut, which costs what was written last
    (https://sqlite.org/pragma.html#pragma_synchronous). That may be reports, which are made again,
    but no trial: a number that was given out names its record.
    """
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def relax(connection: sqlite3.Connection, record: Any) -> None:
        record.info["is_log"] = connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        if record.info["is_log"]:
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(storage.engine, "after_cursor_execute")
    def note(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if statement.startswith(("INSERT INTO trials ", "UPDATE trials ")):
            connection.info["is_to_last"] = True

    @event.listens_for(storage.engine, "checkin")  # once the transaction has ended
    def wait(_: Any, record: Any) -> None:
        if record.info.pop("is_to_last", False) and record.info["is_log"]:
            with path.with_name(f"{path.name}-wal").open("rb") as log:
                os.fsync(log.fileno())

    storage.engine.dispose()  # of connections that were made before


def _has_tables(url: URL, options: Mapping[str, Any]) -> bool:
    from sqlalchemy import create_engine, text

    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            if url.get_backend_name() == "sqlite":
                # Refused where the file or its directory is read-only.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()
            if not engine.dialect.has_table(connection, "alembic_version"):
                return False
            return connection.execute(text("SELECT 1 FROM alembic_version")).first() is not None
    finally:
        engine.dispose()


def _template(url: URL) -> str:
    # Optuna formats the URL, as if it were a template for the version of its tables.
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _use_write_ahead_log(path: Path) -> None:
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
