"""Addresses of storages without their passwords, for whatever people get to read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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

_FILES = ("sqlite", "journal")
"""Schemes of plain files: an @ there belongs to the path."""

_SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential|key$", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?i)((?:password|passwd|pwd|secret|token)\s*=\s*)('[^']*'|[^\s&;]+)")


def redacted(storage: Any) -> str:
    """The address of a storage (None, URL, path or mapping) as it may be shown: no password.

    Where a malformed URL leaves it open which part is the password, too much is hidden.
    """
    if storage is None:
        return "the default SQLite file"
    return storage_text(_shown(storage))


def storage_text(value: Any) -> str:
    """A plain value as a config would write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {storage_text(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(storage_text(item) for item in value) + "]"
    return str(value)


def scrubbed(text: str, storage: Any) -> str:
    """A library's message about a storage, without the passwords of the storage's address."""
    for secret in sorted(_spellings(storage), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _ASSIGNMENT.sub(rf"\g<1>{HIDDEN}", text)


def _shown(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: _shown(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, key) for item in value]
    if value is not None and _SECRET_KEY.search(key):
        return HIDDEN
    return _shown_url(value) if isinstance(value, str) else value


def _shown_url(url: str) -> str:
    if url.startswith("journal://"):  # a path, in which ? and & are what they are
        return url
    before, secret, rest = _split(url)
    address, mark, query = rest.partition("?")
    shown = "&".join(f"{name}={HIDDEN if bad else value}" for name, value, bad in _pairs(query))
    if not secret and not re.match(r"[\w+]*://", url):
        return _ASSIGNMENT.sub(rf"\g<1>{HIDDEN}", url)
    return f"{before}{f':{HIDDEN}' if secret else ''}{address}{mark}{shown}"


def _split(url: str) -> tuple[str, str, str]:
    """What stands before the password, the password, and the rest (with its @) of a URL.

    A password that somebody forgot to encode may hold any of :/?@, so it ends at the last @.
    """
    head, at, tail = url.rpartition("@")
    scheme = url.partition(":")[0]
    if scheme.startswith(_FILES):
        return "", "", url
    if not at or ":" not in head:
        # user:password with the host forgotten looks like a host with an odd port
        odd_port = re.match(r"([\w+]*://[^:/?[]*):([^/?]*[^\d/?][^/?]*)", url)
        if not odd_port:
            return "", "", url
        return odd_port[1], odd_port[2], url[odd_port.end() :]
    start = re.match(r"[\w+]*(://[^:/?@%]*)?", head)
    before = start.group() if start else ""
    if "?" in head:  # the last @ may be the password's in a query: nothing after it is safe
        return before, url[len(before) :].removeprefix(":"), ""
    return before, head[len(before) :].removeprefix(":"), at + tail


def _pairs(query: str) -> Iterator[tuple[str, str, bool]]:
    """Name, value and whether it has to be hidden, of each parameter in a query."""
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        harmless = unquote_plus(name) in _HARMLESS and re.fullmatch(r"[\w./:,-]*", value)
        yield name, value, not harmless


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
        _, secret, rest = _split(value)
        yield secret
        # A parser that stumbles over a malformed URL may quote a piece of the password alone.
        yield from (piece for piece in re.split("[:/?@]", secret) if len(piece) > 2)
        yield from (text for _, text, bad in _pairs(rest.partition("?")[2]) if bad)
