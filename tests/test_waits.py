"""All waits of a sweep are longer or shorter together."""

from __future__ import annotations

import pytest

from experiments.errors import UserError
from experiments.machine.waits import WAITS, scaled


def test_waits_are_multiplied_by_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WAITS, raising=False)
    assert scaled(10.0) == 10.0
    monkeypatch.setenv(WAITS, "0.5")
    assert scaled(10.0) == 5.0


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "soon", ""])
def test_a_factor_must_be_a_number_above_zero(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAITS, value)
    with pytest.raises(UserError, match=rf"{WAITS} must be a number above 0.*got '{value}'"):
        scaled(1.0)
