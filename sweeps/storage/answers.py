"""What libraries say about a storage, in bounded time; and its address, without passwords."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from experiments.errors import PassingError, UserError, is_disk_full, is_for_good
from sweeps.storage.retry import is_away

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

ANSWER_SECONDS = 9.0
"""How long a storage may take to answer for the first time."""

T = TypeVar("T")

HIDDEN = "***"

_HARMLESS = {
    "application_name",
    "charset",
    "connect_timeout",
    "dbname",
    "host",
    "mode",
    "port",
    "sslmode",
    "target_session_attrs",
    "timeout",
    "unix_socket",
    "uri",
    "user",
}
"""Query parameters whose plain values may be shown; every other one may be a password."""

_SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential|key$", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?i)((?:password|passwd|pwd|secret|token)\s*=\s*)('[^']*'|[^\s&;]+)")
_PLAIN = re.compile(r"[\w./:,-]*")


def answer(ask: Callable[[], T], storage: Any) -> T:
    """What `ask` returns, or why it could not, as the user may read it.

    Raises:
        UserError: `ask` raised; the message names the storage, but never its password.
    """
    try:
        return ask()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  # of any database driver
        # Not chained: the cause's own message and the frames' values may hold the password.
        raise refused(error, storage) from None


def prompt_answer(ask: Callable[[], T], storage: Any) -> T:
    """Like `answer`, also for what may never return, such as a server that accepts and is silent.

    Raises:
        UserError: `ask` raised or took too long.
    """
    results: list[T] = []
    errors: list[UserError] = []

    def run() -> None:
        try:
            results.append(answer(ask, storage))
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="first answer of the storage", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if errors:
        raise type(errors[0])(str(errors[0]))
    if not results:
        raise PassingError(
            f"The sweep's storage must answer within {ANSWER_SECONDS:g} s, but {redacted(storage)} "
            "did not; check its host and port, and that the server is up"
        )
    return results[0]


def refused(error: Exception, storage: Any, then: str = "") -> UserError:
    """The error for a storage that refused; one that may answer later is a `PassingError`.

    Args:
        error: what it raised.
        storage: as the user wrote it.
        then: what else is said.
    """
    said = scrubbed(told(error), storage)
    may_pass = is_away(error) or isinstance(error, OSError)
    passes = may_pass and not is_for_good(said)
    remedy = (
        "make room"
        if is_disk_full(error)
        else "check that it exists and is up, and the user, password and database in its address"
    )
    return (PassingError if passes else UserError)(
        f"The sweep's storage must be reachable and writable, but {redacted(storage)} answered "
        f"{type(error).__name__}: {said[:500]}; {remedy}{then}"
    )


def told(error: BaseException) -> str:
    """What a driver said, in one line; Optuna's own words are about something else."""
    details = getattr(error, "details", None)  # gRPC's
    of_driver = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
    said = str(of_driver or (details() if callable(details) else error))
    return _ASSIGNMENT.sub(rf"\g<1>{HIDDEN}", " ".join(said.split()))


def redacted(storage: Any) -> str:
    """The address of a storage (None, URL, path or mapping) as it may be shown: no password.

    Where a malformed URL leaves it open which part is the password, all but its scheme is hidden.
    """
    if storage is None:
        return "the default SQLite file"
    return _text(_shown(storage))


def scrubbed(text: str, storage: Any) -> str:
    """A library's message about a storage, without the passwords of the storage's address."""
    for secret in sorted(_spellings(storage), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _ASSIGNMENT.sub(rf"\g<1>{HIDDEN}", text)


def _text(value: Any) -> str:
    """A plain value as a config would write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)


def _shown(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: _shown(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, key) for item in value]
    if value is not None and _SECRET_KEY.search(key):
        return HIDDEN
    return _shown_address(value) if isinstance(value, str) else value


def _shown_address(text: str) -> str:
    if not _may_hold_a_password(text):
        return _ASSIGNMENT.sub(rf"\g<1>{HIDDEN}", text)
    url = _parsed(text)
    if url is None:
        scheme, separator, _ = text.partition("://")
        return f"{scheme}{separator}{HIDDEN}" if separator else HIDDEN
    query = {
        name: HIDDEN if _is_secret(name, value) else value for name, value in url.query.items()
    }
    return url.set(query=query).render_as_string().replace(quote_plus(HIDDEN), HIDDEN)


def _may_hold_a_password(text: str) -> bool:
    """Not a path, in which @, ? and & are what they are, nor a proxy's host and port."""
    if re.match(r"(journal|sqlite)://|grpc://[^@?]*$", text):
        return False
    return "://" in text or (":" in text and "@" in text)


def _parsed(text: str) -> URL | None:
    """An address whose parts are beyond doubt; None for one with an @ or : that was not encoded."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        return None
    is_clear = text.count("@") <= 1 and ":" not in (url.username or "")
    return url if is_clear else None


def _is_secret(name: str, value: Any) -> bool:
    return name not in _HARMLESS or not (isinstance(value, str) and _PLAIN.fullmatch(value))


def _spellings(storage: Any) -> set[str]:
    """Each secret of an address as it was written, decoded and encoded."""
    found = set()
    for secret in _secrets(storage):
        found |= {secret, unquote(secret), unquote_plus(secret)}
        found |= {quote(secret, safe=""), quote_plus(secret)}
        found |= {repr(spelling)[1:-1] for spelling in found}
    return found - {""}


def _secrets(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, key)
    elif value is not None and _SECRET_KEY.search(key):
        yield str(value)
    elif isinstance(value, str):
        yield from (found.group(2).strip("'") for found in _ASSIGNMENT.finditer(value))
        if _may_hold_a_password(value):
            yield from _secrets_of(value)


def _secrets_of(text: str) -> Iterator[str]:
    url = _parsed(text)
    hidden = text.partition("://")[2] or text
    if url is not None:
        yield str(url.password or "")
        hidden = hidden.partition(":")[2].rpartition("@")[0]  # as it was written
        for name, value in url.query.items():
            if _is_secret(name, value):
                yield from [value] if isinstance(value, str) else value
    # A parser that stumbles over an address may quote a piece of the password alone.
    yield from (piece for piece in re.split("[:/?@]", hidden) if len(piece) > 2)
