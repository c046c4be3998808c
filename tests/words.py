"""Giving the user's word in a test: it is read once, when a process starts."""

from __future__ import annotations

import pytest

from losses import trust


def trusting(patch: pytest.MonkeyPatch, *entries: str) -> None:
    """Let this process, and those that it starts, trust packages and paths."""
    word = ",".join(entries)
    patch.setattr(trust, "AT_START", word)
    patch.setenv(trust.VARIABLE, word)
