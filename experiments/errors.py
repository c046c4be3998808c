"""Errors that are meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: the message states the rule, the value received and the remedy.

    `run.py` prints it without a traceback (unless `HYDRA_FULL_ERROR=1`) and exits non-zero.
    """


class DivergedError(Exception):
    """Training produced a loss that is NaN or infinite.

    Attributes:
        step: the optimizer step (counted from 0) at which the loss was first not finite.
    """

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"the loss became {value} at step {step}")
        self.step = step
        self.value = value
