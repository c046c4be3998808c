"""Modules of the user's own that register metrics, networks, data sources and loggers.

The environment is the user's word, as in `losses.trust`, and is what all processes of a trial, a
sweep and a service share; no config or record can name a module here.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from experiments.errors import REFUSED

VARIABLE = "VAESWEEP_PLUGINS"
"""Environment variable with the modules to import, separated by commas."""

FROM_OUTSIDE = f"where it comes from outside, put {VARIABLE}=MODULE before the command"
"""What may be the remedy for a name that is not registered."""


def named() -> list[str]:
    """The modules, in the order given."""
    return list(filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))))


def load() -> None:
    """Import them; the process ends with a message where one cannot be imported."""
    for name in named():
        try:
            importlib.import_module(name)
        except ImportError as error:
            _refuse(
                f"{VARIABLE} must name modules that can be imported, in this folder, "
                f"installed or on PYTHONPATH, but {name} gives {type(error).__name__}: {error}"
            )
        except Exception as error:  # noqa: BLE001  # it is anybody's code
            _refuse(f"{name}, of {VARIABLE}, gives {type(error).__name__}: {error}")


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(f"error: {why}\n")
    sys.exit(REFUSED)
