"""Hydra's override grammar: values as it writes them, and what to type where it cannot read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_FUNCTIONS = "tag|interval|range|choice|glob|sort|shuffle|int|float|bool|str"
_WORDS = {"null", "true", "false", "nan", "inf"}
_CONDITIONS = "hydra.sweeper.conditions"
_STATED = re.compile(r"\+{0,2}hydra\.sweeper\.conditions=\{(.*)\}\s*", re.DOTALL)
_BETWEEN_PAIRS = re.compile(r",(?=\s*[\w./@+-]+\s*:)")
_PAIR = re.compile(r"\s*([\w./@+-]+)\s*:\s*([^\s'\"=\\][^'\"=\\]*=[^'\"\\]*?)\s*")


def literal(value: Any) -> str:
    """A plain value such that Hydra reads it back; a whole float (16.0) becomes whole (16)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{','.join(literal(element) for element in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{literal(k)}:{literal(v)}' for k, v in value.items())}}}"
    text = str(value)
    if not isinstance(value, str) or (_PLAIN.fullmatch(text) and text.lower() not in _WORDS):
        return text
    return _quoted(text, "'")


def key_of(override: str) -> str:
    """What an override is about: `data.root` of `+data.root=photos`."""
    return override.partition("=")[0].lstrip("+~")


def readable_conditions(overrides: Sequence[str]) -> list[str]:
    """Overrides with conditions as people write them (`{KEY: OTHER=A,B}`) as Hydra reads them.

    Hydra's grammar wants quotes around a value that holds `=` or a comma, and a plus before a key
    that the config does not have yet. What is no such text stays as it is.
    """
    return [_readable(override) for override in overrides]


def _readable(override: str) -> str:
    whole = _STATED.fullmatch(override)
    if whole is None:
        return override
    pairs = [_PAIR.fullmatch(text) for text in _BETWEEN_PAIRS.split(whole[1])]
    inside = whole[1]
    if all(pairs):
        inside = ", ".join(f"{pair[1]}: {literal(pair[2])}" for pair in pairs if pair)
    return f"++{_CONDITIONS}={{{inside}}}"


def advice(override: str, shown: Callable[[str], str] = shlex.quote) -> str:
    """What is wrong with an override that Hydra cannot read, and what to type instead.

    Args:
        override: as Hydra got it.
        shown: writes an override as one types it; in a shell, if nothing else is said.
    """
    key, equals, value = override.partition("=")
    if not equals:
        return f"an argument must be KEY=VALUE, such as lr=1e-3, but got {override!r}"
    if not _is_readable(f"{key}=0"):
        bare = f"{key.lstrip('-')}={value}"
        hint = f"; type {shown(bare)}" if key.startswith("-") and _is_readable(bare) else ""
        return (
            "a key must be letters, digits and _, with dots between its parts (data.root), but "
            f"got {key!r} in {override!r}{hint}"
        )
    text, parts = _as_text(key, value), _by_parts(key, value)
    if _is_readable(override):
        return (
            f"a single run must have one value for each key, but got {override!r}; to try each, "
            f"add -m; if it is one text, type {shown(str(text))}"
        )
    if re.match(rf"({_FUNCTIONS})\(", value):
        remedy = "" if parts is None else f"; type {shown(parts)}"
        return (
            f"`{key}` must be a value or a search space (lr=1e-3,3e-4 or lr=interval(1e-4,1e-2)), "
            f"but Hydra cannot read {value!r}{remedy}"
        )
    return (
        "a value must be in quotes, and these in those of the shell, unless it is letters, digits "
        f"and / - _ . + only, but got {override!r}{_remedies(text, parts, shown)}"
    )


def _remedies(text: str | None, parts: str | None, shown: Callable[[str], str]) -> str:
    if parts is not None and (text is None or _is_composed(parts.partition("=")[2])):
        return f"; type {shown(parts)}"
    if text is None:
        return ""
    return f"; type {shown(text)}" + (f", or for several values {shown(parts)}" if parts else "")


def _as_text(key: str, value: str) -> str | None:
    """An override that gives the key this text, whole."""
    text = f"{key}={_quoted(value)}"
    return text if _is_readable(text, value) else None


def _by_parts(key: str, value: str) -> str | None:
    """An override in which only those parts of a list or search are quoted that must be."""
    # A colon separates the keys of a mapping, or belongs to an address in a list.
    for separators in (r"([\[\]{}(),:])", r"([\[\](),])") if _is_composed(value) else ("(,)",):
        parts = re.split(separators, value)
        text = f"{key}=" + "".join(
            p if re.fullmatch(separators, p) or _is_readable(f"k={p}") else _quoted(p)
            for p in parts
        )
        if len(parts) > 1 and _is_readable(text):
            return text
    return None


def _is_composed(value: str) -> bool:
    return re.match(r"[\[{]|\w+\(", value) is not None


def _quoted(text: str, quote: str = '"') -> str:
    """In quotes, in which only backslashes before a quote are special."""

    def escaped(found: re.Match[str]) -> str:
        return found[1] * 2 + (f"\\{quote}" if found[2] else "")

    return quote + re.sub(rf"(\\*)({quote}|$)", escaped, text) + quote


def _is_readable(override: str, value: str | None = None) -> bool:
    """Whether Hydra can read it, and reads that value if one is given."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except HydraException:
        return False
    return value is None or parsed.value() == value
