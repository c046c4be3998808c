"""Whose code a config or a record may name: the user's word.

They may come from somebody else, so naming code in them is not enough to run it. The word is read
once, when the process starts and before any config is composed, so that no config can change it.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "VAESWEEP_TRUST"
"""Environment variable with what the user trusts, separated by commas.

A name is a package, whose code configs may name. Anything else is a path: TorchScript files at or
below it may run, and configs may name directories at or below it to write to.
"""

AT_START = os.environ.get(VARIABLE, "")
"""Its value when the process started."""

_DIRECTORY = Path.cwd()  # to which paths are relative, wherever the process goes


def trusted_packages() -> list[str]:
    """The top-level packages that the user trusts, in the order given."""
    return [entry for entry in _entries() if entry.isidentifier()]


def is_trusted_path(path: str | Path) -> bool:
    """Whether the user trusts a file or directory, or a directory above it."""
    named = [_DIRECTORY / Path(e).expanduser() for e in _entries() if not e.isidentifier()]
    wanted = Path(path).expanduser().resolve()
    return any(wanted.is_relative_to(one.resolve()) for one in named)


def how_to_trust(entry: str) -> str:
    """What the user has to do to trust `entry` as well."""
    return f"put {VARIABLE}={','.join([*_entries(), entry])} before the command"


def _entries() -> list[str]:
    named = (name.strip() for name in AT_START.split(","))
    return [name for name in named if name]
