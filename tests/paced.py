"""A loss that a test can slow down, so that it surely finds a training in the middle.

`VAESWEEP_TRUST=tests python run.py loss=custom loss.target=tests.paced.squared_error`
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

SLOW = "PACED_SLOW"
"""Environment variable: the path of a file; every step takes longer while it exists."""


def squared_error(x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum of squared differences per image, `(B,)`, after a wait of 20 ms if that is asked for."""
    if Path(os.environ[SLOW]).exists():
        time.sleep(0.02)
    return (x_hat - x).square().flatten(1).sum(1)
