"""Which tests train a model, and on which processor they seem to run.

What a model becomes depends on the processor: on its kernels, and on whether it multiplies
bfloat16, which `trainer.precision=auto` then takes. `make test-processor` runs the tests that are
marked `trains` as on another one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import pytest

PRECISION = "VAESWEEP_TEST_PRECISION"
"""Environment variable: `float32` or `bfloat16`, what `auto` precision is on the CPU in the tests'
own process, or `other`, for that which it would not be."""


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark what asks for `tiny`, in order to train; others are marked by hand.

    Those are tests that train without it, and some that look at what the shared models show.
    """
    for item in items:
        if "tiny" in getattr(item, "fixturenames", ()):
            item.add_marker("trains")


def refuse_unmarked(item: pytest.Item, patch: pytest.MonkeyPatch) -> None:
    """Let a test fail that trains but is not marked so."""
    trial = sys.modules.get("experiments.trial")
    if trial is not None and item.get_closest_marker("trains") is None:
        patch.setattr(trial, "_train", _unmarked)


def _unmarked(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a test that trains must be marked so: @pytest.mark.trains")


def choose_precision() -> None:
    """Let `auto` precision be what PRECISION says."""
    wanted = os.environ.get(PRECISION)
    if wanted is None:
        return
    from experiments.machine import device as devices

    multiplies = devices._multiplies_bfloat16
    answers = {"float32": False, "bfloat16": True, "other": not multiplies("cpu")}
    if wanted not in answers:
        raise pytest.UsageError(
            f"{PRECISION} must be one of {', '.join(answers)}, but got {wanted!r}"
        )

    def chosen(device: str) -> bool:
        return answers[wanted] if device == "cpu" else multiplies(device)

    devices._multiplies_bfloat16 = chosen
