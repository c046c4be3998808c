"""Something that happens right before a function of the code is called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest


def before(patch: pytest.MonkeyPatch, dotted: str, happens: Callable[..., Any]) -> None:
    """Let `happens` be called, with the same arguments, before each call of a function."""
    *path, name = dotted.split(".")
    for end in range(len(path), 0, -1):
        try:
            place: Any = import_module(".".join(path[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in path[end:]:
            place = getattr(place, attribute)
        break
    call = getattr(place, name)

    def both(*arguments: Any, **options: Any) -> Any:
        happens(*arguments, **options)
        return call(*arguments, **options)

    patch.setattr(place, name, both)
