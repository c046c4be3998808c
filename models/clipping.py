"""Adaptive gradient clipping, which means the same at every scale and image size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

SETTLING = 20
"""Steps at the beginning in which nothing is clipped: until then, the usual norm is not known."""
_MEMORY = 0.02
"""Least weight of a step in the running mean: it remembers about 50."""
_FARTHEST = 10.0
"""Multiple of the usual norm as which longer ones go into it."""


class AdaptiveClipping:
    """Shortens gradients whose norm is more than `factor` times the usual one.

    The usual norm is the running geometric mean of those before, in which none counts for more than
    ten times what was usual: a spike moves it by 5 % at most, a lasting change is followed.
    (Seetharaman et al. 2020, "AutoClip: adaptive gradient clipping", likewise clip by the history
    of the norm.) What a loss is multiplied by cancels. All of it happens on the gradient's device,
    without waiting for it, and in the same memory every time, so that it can be part of a recorded
    step.

    Args:
        factor: above 0; None shortens nothing.
    """

    def __init__(self, factor: float | None) -> None:
        self._factor = math.inf if factor is None else factor
        self._steps = 0
        self._log_usual, self._weight, self._most, self._farthest = torch.zeros(4).unbind()

    def to(self, device: torch.device) -> None:
        """Work on gradients of that device."""
        state = self.state_dict()
        self._weight, self._most, self._farthest = torch.zeros(3, device=device).unbind()
        self._log_usual = state["log_usual"].to(device)
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        return {"steps": self._steps, "log_usual": self._log_usual.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where that state was, once `to` has said on which device."""
        self._steps, self._log_usual = state["steps"], state["log_usual"].clone()

    def begin_step(self) -> None:
        """Change what depends on the number of steps; called before each, recorded or not."""
        if self._steps <= 2 / _MEMORY:
            self._set()
        self._steps += 1

    @torch.no_grad()
    def __call__(self, parameters: Iterable[nn.Parameter]) -> tuple[Tensor, Tensor]:
        """Shorten the gradients of the parameters together.

        Returns:
            Their norm before, and 1 if that was too long, else 0; scalars.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        excess = norm.log() - self._log_usual
        share = (self._most - excess).clamp_max(0).exp()  # 1 where all is well
        share = torch.where(norm.isfinite(), share, 1.0)  # what is not finite must be noticed
        if self._factor < math.inf:
            torch._foreach_mul_(gradients, share)
        # A norm of 0 and one of a step that mixed precision skips say nothing.
        counted = torch.minimum(excess.nan_to_num(0.0, 0.0, 0.0), self._farthest)
        self._log_usual.addcmul_(self._weight, counted)
        return norm, (share < 1).to(norm.dtype)

    def _set(self) -> None:
        """Later steps weigh more at first: the norm changes most at the beginning."""
        settled = self._steps >= SETTLING
        self._weight.fill_(max(2 / (self._steps + 2), _MEMORY))
        self._most.fill_(math.log(self._factor) if settled else math.inf)
        self._farthest.fill_(math.log(_FARTHEST) if settled else math.inf)
