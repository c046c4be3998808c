"""Values as Hydra's override grammar writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = {"null", "true", "false", "nan", "inf"}


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
