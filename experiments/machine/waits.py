"""How long processes wait for each other, all together longer or shorter than usual.

The environment variable VAESWEEP_WAITS multiplies every such time, so that their relations stay:
0.1 lets a test see in seconds what takes minutes, 3 suits a disk or a server that is slow. All
processes of a sweep must have the same.
"""

from __future__ import annotations

import math
import os

from experiments.errors import UserError

WAITS = "VAESWEEP_WAITS"


def scaled(seconds: float) -> float:
    """So many seconds, by the factor that the environment says.

    Raises:
        UserError: it is no number above 0.
    """
    text = os.environ.get(WAITS, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise UserError(
            f"the environment variable {WAITS} must be a number above 0, by which all waits are "
            f"multiplied, but got {text!r}; unset it for 1"
        )
    return factor * seconds
