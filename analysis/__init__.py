"""The answer: which loss, which latent size, and how sure are we.

`load` reads what sweeps left, from any source, into one table; `compare` says what it means;
`analysis.figures` shows it and `python -m analysis.report` writes it down.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison import Comparison as Comparison
    from analysis.comparison import compare as compare
    from analysis.diagnosis import Finding as Finding
    from analysis.diagnosis import diagnose as diagnose
    from analysis.home import home_advantage as home_advantage

_HOMES = {
    "Comparison": "comparison",
    "compare": "comparison",
    "Finding": "diagnosis",
    "diagnose": "diagnosis",
    "home_advantage": "home",
}
"""Where each public name lives; loaded when it is first asked for."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"analysis.{_HOMES[name]}"), name)
