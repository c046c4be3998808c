"""A loss that a test can slow down, so that it surely finds a training in the middle.

`VAESWEEP_TRUST=tests python run.py loss=custom loss.target=tests.paced.squared_error`
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import torch

SLOW = "PACED_SLOW"
"""Environment variable: the path of a file; while it exists, a step takes as many seconds longer
as it says."""


def squared_error(x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum of squared differences per image, `(B,)`, after a wait if that is asked for."""
    with suppress(FileNotFoundError):
        time.sleep(float(Path(os.environ[SLOW]).read_text()))
    return (x_hat - x).square().flatten(1).sum(1)
