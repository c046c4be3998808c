"""Addresses of studies in files: a path may hold `?`, `%`, `#` and whatever else folders hold."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

from experiments.errors import UserError
from experiments.record.foreign import check_regular

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SQLITE, _JOURNAL = "sqlite:///", "journal://"
_OWN_URI = "file:"  # before a path that SQLite itself decodes, after SQLAlchemy


def sqlite_address(path: Path, **options: str) -> str:
    """The URL of a SQLite file, percent-encoded.

    Args:
        path: of the file.
        options: of SQLite's own, such as `mode="ro"`.
    """
    from sqlalchemy.engine import URL

    name = str(path.absolute())
    if not options:
        return URL.create("sqlite", database=name).render_as_string()
    uri = URL.create("sqlite", database=_OWN_URI + quote(name), query={**options, "uri": "true"})
    return uri.render_as_string()


def reading_address(path: Path) -> str:
    """The URL by which a study in a SQLite file is read and never written.

    Raises:
        UserError: it is none, or holds what no study does: views and virtual tables compute what
            they like.
    """
    # SQLite keeps its write-ahead log beside the file; where nobody may write there is none.
    how = {"mode": "ro"} if os.access(path.parent, os.W_OK) else {"immutable": "1"}
    uri = f"file:{quote(str(path.absolute()))}?{urlencode(how)}"
    try:
        check_regular(path)
        with closing(sqlite3.connect(uri, uri=True)) as database:
            found = database.execute(
                "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
                "OR sql LIKE 'create virtual%'"
            ).fetchone()
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"a study's storage must be a SQLite database, but {path} cannot be read: {error}"
        ) from error
    if found is not None:
        raise UserError(f"a study's storage must hold plain tables, but {path} holds {found[0]!r}")
    return sqlite_address(path, **how)


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; None for servers."""
    if url.get_backend_name() != "sqlite":
        return None
    database = url.database or ""
    if database.startswith(_OWN_URI):
        return Path(unquote(database.removeprefix(_OWN_URI)))
    return Path(database)


def at_path(url: URL, path: Path) -> URL:
    """The URL of a SQLite database with another path."""
    is_own_uri = (url.database or "").startswith(_OWN_URI)
    return url.set(database=_OWN_URI + quote(str(path)) if is_own_uri else str(path))


def study_reference(text: str) -> tuple[str, str]:
    """The storage and the name of a study, from `URL#NAME`; the name is empty where there is none.

    The path of a file may stand there as it is or percent-encoded, and hold a `#` itself.
    """
    for scheme in (_SQLITE, _JOURNAL):
        if text.startswith(scheme):
            rest = text.removeprefix(scheme)
            for end in [len(rest), *(i for i in range(len(rest))[::-1] if rest[i] == "#")]:
                path = Path(rest[:end])
                if rest[:end] and path.is_file():
                    address = sqlite_address(path) if scheme == _SQLITE else f"{_JOURNAL}{path}"
                    return address, rest[end + 1 :]
    address, mark, name = text.rpartition("#")
    return (address, name) if mark else (text, "")
