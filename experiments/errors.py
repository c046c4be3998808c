"""Errors that are meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: the message states the rule, the value received, the remedy.

    `run.py` prints it without a traceback (unless HYDRA_FULL_ERROR=1) and exits non-zero.
    """


class TrialError(UserError):
    """A trial that failed while it trained; its record says why."""
