"""Locks that a database server keeps for the workers of a sweep."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sweeps.storage.answers import answer, redacted
from sweeps.storage.databases import dispose, engine_options, parsed
from sweeps.storage.retry import LockTimeoutError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.exc import DBAPIError

_POSTGRESQL = """
SELECT set_config('lock_timeout', '{seconds:.0f}s', true),
       set_config('idle_in_transaction_session_timeout', '0', true),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       pg_advisory_xact_lock({key})
"""
# The lock is the transaction's, not the session's, so that it also works through PgBouncer. The
# keepalives free the lock of a machine that lost its power within half a minute.

_TIMED_OUT = "55P03"
"""PostgreSQL's code for a lock that was not to be had in time."""


@contextmanager
def server_lock(url: str, name: str, seconds: float) -> Iterator[None]:
    """Hold the lock `name` of a PostgreSQL or MySQL database in a connection of its own.

    The connection is kept for the next time, by this process alone. Should it break, the server
    releases the lock at once, before the caller is done.

    Raises:
        LockTimeoutError: the lock was not to be had in time, or the server does not answer.
    """
    from sqlalchemy.exc import DBAPIError

    # A forked child must not talk on its parent's connections.
    engine = _engine(url, os.getpid())
    connection = answer(engine.connect, url)
    try:
        if not answer(lambda: _acquired(connection, name, seconds), url):
            raise LockTimeoutError(
                f"A worker must get the lock {name!r} of {redacted(url)} within {seconds:g} s, but "
                "another one holds it; is a worker suspended?"
            )
        yield
    finally:
        try:
            _release(connection, name)
        except DBAPIError:
            connection.invalidate()  # it broke, and the lock went with it
        connection.close()


@functools.cache
def _engine(url: str, process: int) -> Engine:
    from sqlalchemy import create_engine

    found = parsed(url)
    engine = create_engine(found, **engine_options(found))
    atexit.register(dispose, engine, process)
    return engine


def _acquired(connection: Connection, name: str, seconds: float) -> bool:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        try:
            connection.execute(text(_POSTGRESQL.format(seconds=seconds, key=key)))
        except DBAPIError as error:
            if _code(error) != _TIMED_OUT:
                raise
            return False
        return True
    statement = text("SELECT GET_LOCK(:name, :seconds)")
    values = {"name": _mysql_name(connection, name), "seconds": seconds}
    return bool(connection.execute(statement, values).scalar())


def _release(connection: Connection, name: str) -> None:
    from sqlalchemy import text

    if connection.dialect.name != "postgresql":
        values = {"name": _mysql_name(connection, name)}
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), values)
    connection.rollback()


def _mysql_name(connection: Connection, name: str) -> str:
    # MySQL's locks belong to the whole server, and their names have at most 64 characters.
    database = connection.engine.url.database
    return "vaesweep:" + hashlib.sha256(f"{database}:{name}".encode()).hexdigest()[:32]


def _code(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
