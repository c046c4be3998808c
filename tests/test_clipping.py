"""A gradient is clipped where it is a spike among those before, at any scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.clipping import SETTLING, AdaptiveClipping


def after(norms: list[float], factor: float | None = 5.0) -> tuple[AdaptiveClipping, list[float]]:
    """Clipping that has seen gradients of such norms, and what it left of each."""
    clipping, left = AdaptiveClipping(factor), []
    for norm in norms:
        left.append(step(clipping, norm)[0])  # noqa: PERF401
    return clipping, left


def step(clipping: AdaptiveClipping, norm: float) -> tuple[float, bool]:
    """The norm that is left of two parameters' gradients, and whether it acted."""
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for parameter in parameters:
        parameter.grad = torch.full(parameter.shape, norm / math.sqrt(7))
    clipping.begin_step()
    before, clipped = clipping(parameters)
    assert before.item() == pytest.approx(norm, rel=1e-5, nan_ok=True)
    left = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    return left.item(), bool(clipped)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6])
def test_a_spike_is_clipped_to_a_multiple_of_the_usual_norm(unit: float) -> None:
    clipping, left = after([unit] * 120)
    assert left == pytest.approx([unit] * 120, rel=1e-4)
    found, clipped = step(clipping, 4.9 * unit)
    assert found == pytest.approx(4.9 * unit, rel=1e-4)
    assert not clipped
    found, clipped = step(clipping, 1000 * unit)
    assert clipped
    assert found == pytest.approx(5 * unit, rel=0.05)


def test_a_spike_hardly_moves_what_is_usual() -> None:
    clipping, _ = after([1.0] * 120)
    step(clipping, 1e9)
    found, _ = step(clipping, 1e9)
    assert found == pytest.approx(5, rel=0.06)


def test_a_lasting_change_is_followed_in_both_directions() -> None:
    for level in (0.01, 100.0):
        clipping, _ = after([1.0] * 60 + [level] * 400)
        assert not step(clipping, 4 * level)[1]
        assert step(clipping, 6 * level)[1]


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_what_clips_every_step_does_not_shrink_them_away(factor: float) -> None:
    _, left = after([1.0] * 500, factor)
    assert left[-1] == pytest.approx(factor, rel=1e-3)


def test_nothing_is_clipped_before_the_usual_is_known_or_without_a_factor() -> None:
    clipping, left = after([10.0**i for i in range(SETTLING)])
    assert left == pytest.approx([10.0**i for i in range(SETTLING)], rel=1e-4)
    clipping, _ = after([1.0] * 60, None)
    found, clipped = step(clipping, 1e6)
    assert found == pytest.approx(1e6)
    assert not clipped


@pytest.mark.parametrize("odd", [0.0, math.inf, math.nan])
@pytest.mark.parametrize("steps", [3, 60])
def test_norms_that_say_nothing_leave_the_usual_one_as_it_was(odd: float, steps: int) -> None:
    clipping, _ = after([1.0] * steps)
    before = clipping.state_dict()["log_usual"].clone()
    left, clipped = step(clipping, odd)
    assert clipping.state_dict()["log_usual"] == before
    assert left == pytest.approx(odd, nan_ok=True), "what is not finite must be noticed"
    assert not clipped
    assert step(clipping, 1e3)[0] == pytest.approx(5 if steps > SETTLING else 1e3, rel=1e-3)


def test_a_guard_that_goes_on_does_what_it_would_have_done() -> None:
    norms = torch.rand(60, generator=torch.Generator().manual_seed(0)).mul(4).exp().tolist()
    clipping, _ = after(norms[:30], 1.5)
    again = AdaptiveClipping(1.5)
    again.load_state_dict(clipping.state_dict())
    again.to(torch.device("cpu"))
    later = [step(clipping, norm) for norm in norms[30:]]
    assert later == [step(again, norm) for norm in norms[30:]]
    assert any(clipped for _, clipped in later)
