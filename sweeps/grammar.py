"""Values as Hydra's override grammar writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
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
    # In quotes only backslashes before a quote are special.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


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
