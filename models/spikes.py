"""A guard against spikes of the gradient that means the same at every scale and size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

SETTLING = 20
"""Steps at the beginning in which nothing is clipped: until then, the usual norm is not known."""
_MEMORY = 0.02
"""Weight of the newest step in the running mean: it remembers about 50."""
_FARTHEST = 10.0
"""Multiple of the usual norm as which longer ones go into it."""


class SpikeGuard:
    """Shortens gradients whose norm is more than `factor` times the usual one.

    The usual norm is the running geometric mean of those before, in which none counts for more than
    ten times what was usual: a spike moves it by 5 % at most, a lasting change is followed.
    (Seetharaman et al. 2020, "AutoClip: adaptive gradient clipping", likewise clip by the history
    of the norm.) What a loss is multiplied by cancels. All of it happens on the gradient's device, without
    waiting for it, and in the same memory every time, so that it can be part of a recorded step.

    Args:
        factor: above 0; None shortens nothing.
    """

    def __init__(self, factor: float | None) -> None:
        self._factor = math.inf if factor is None else factor
        self._steps = torch.zeros(())
        self._log_usual = torch.zeros(())

    def to(self, device: torch.device) -> None:
        """Work on gradients of that device."""
        self._steps, self._log_usual = self._steps.to(device), self._log_usual.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint has to keep."""
        return {"steps": self._steps, "log_usual": self._log_usual}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where that state was."""
        self._steps, self._log_usual = state["steps"].clone(), state["log_usual"].clone()

    @torch.no_grad()
    def __call__(self, parameters: Iterable[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Shorten the gradients of the parameters together.

        Returns:
            Their norm before, and 1 if that was too long, else 0; scalars.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        usual, settled = self._log_usual.exp(), self._steps >= SETTLING
        limit = self._factor * usual
        clipped = settled & (norm > limit)
        if self._factor < math.inf:
            # Where nothing is clipped that is 1, also of a norm of 0, and NaN stays NaN.
            share = torch.where(clipped, limit / norm, torch.ones_like(norm))
            torch._foreach_mul_(gradients, share)
        self._remember(torch.where(settled, torch.minimum(norm, _FARTHEST * usual), norm))
        return norm, clipped.to(norm.dtype)

    def _remember(self, norm: Tensor) -> None:
        """Those of 0 and infinite ones (a step that mixed precision skips) say nothing."""
        log_norm = norm.log()
        weight = (1 / (self._steps + 1)).clamp_min(_MEMORY)
        known = torch.isfinite(log_norm)
        moved = self._log_usual + weight * (log_norm - self._log_usual)
        self._log_usual.copy_(torch.where(known, moved, self._log_usual))
        self._steps.add_(known)
