"""Whose code a config or a record may name.

They may come from somebody else, so naming code in them is not enough to run it.
"""

from __future__ import annotations

import os

VARIABLE = "VAESWEEP_TRUST"
"""Environment variable with the packages, separated by commas, whose code configs may name."""


def trusted_packages() -> list[str]:
    """The top-level packages that the user trusts, in the order given."""
    named = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return [name for name in named if name]
