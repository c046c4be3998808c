"""Databases behind a URL: which driver, and settings that suit many workers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.cli import commands
from experiments.errors import UserError
from sweeps.bounds import STORAGE_CALL
from sweeps.storage.answers import redacted

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

CONNECT_SECONDS = 4
"""How long one address may take to answer; a name such as localhost can have two."""

_DRIVERS = {
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql", "MySQLdb"),
    "mariadb": ("pymysql", "MySQLdb"),
}
"""Driver modules by preference."""

_CONNECT_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": STORAGE_CALL},
    "postgresql": {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "vaesweep",
        # A server that is gone without a word is noticed after a minute, not after hours.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    },
    "mysql": {"connect_timeout": CONNECT_SECONDS, "read_timeout": 60, "write_timeout": 60},
}


def address(storage: str | Mapping[str, Any]) -> str | None:
    """The URL within a normalised storage; None if it has none that we know of."""
    if isinstance(storage, str):
        return storage
    kind = str(storage.get("_target_")).rpartition(".")[2]
    if kind == "RDBStorage" and isinstance(storage.get("url"), str):
        return str(storage["url"])
    backend = storage.get("log_storage")
    if kind == "JournalStorage" and isinstance(backend, Mapping) and "file_path" in backend:
        return f"journal://{backend['file_path']}"
    return None


def parsed(url: str) -> URL:
    """SQLAlchemy's URL with a driver, an installed one if there is any.

    Raises:
        UserError: the URL is malformed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme, _, rest = url.partition("://")
    try:
        found = make_url(f"{_with_driver(scheme)}://{rest}")
        complete = found.get_backend_name() == "sqlite" or bool(found.database)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        complete = False
    if not complete:
        raise UserError(
            "The sweep's storage must be a URL like postgresql://user:password@host:5432/database "
            f"(special characters in the password percent-encoded), but got {redacted(url)}"
        )
    return found


def _with_driver(scheme: str) -> str:
    if scheme not in _DRIVERS:
        return scheme
    installed = [driver for driver in _DRIVERS[scheme] if importlib.util.find_spec(driver)]
    return f"{scheme}+{(installed or _DRIVERS[scheme])[0].lower()}"


def check_driver(url: URL, shown: Any) -> None:
    """Raise a `UserError` with the remedy where the driver of a database is missing."""
    from sqlalchemy.exc import NoSuchModuleError

    extra = "postgresql" if url.get_backend_name() == "postgresql" else "mysql"
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise UserError(
            f"The sweep's storage {redacted(shown)} needs the package {error.name or extra}, which "
            f"cannot be imported: {commands.install(extra)}"
        ) from None
    except NoSuchModuleError:
        raise UserError(
            f"The sweep's storage must name a driver that SQLAlchemy knows, but got "
            f"{redacted(shown)}; without one, {extra}://... finds the installed driver"
        ) from None


def engine_options(url: URL, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Keywords for `sqlalchemy.create_engine`; what the user says has precedence."""
    given = dict(given or {})
    defaults = _CONNECT_OPTIONS.get(url.get_backend_name().replace("mariadb", "mysql"), {})
    connect = {name: value for name, value in defaults.items() if name not in url.query}
    connect |= given.pop("connect_args", None) or {}
    return {"pool_pre_ping": True, **given, "connect_args": connect}


def dispose(engine: Engine, process: int) -> None:
    """Close the connections of an engine, in the process that made them only.

    A forked child that closed its copies would end its parent's sessions.
    """
    if process == os.getpid():
        engine.dispose()
