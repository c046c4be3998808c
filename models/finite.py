"""Noticing a loss that is NaN or infinite without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

_LOOK_EVERY = 16  # steps


class FiniteWatch:
    """Counts the steps before the loss was first NaN or infinite, on the loss's device.

    On the CPU the answer is there at once. A GPU runs behind Python; there it is copied every
    16 steps while the training goes on, and read 16 steps later.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._finite: Tensor | None = None
        self._snapshot: tuple[int, Tensor, torch.cuda.Event] | None = None

    def observe(self, loss: Tensor) -> None:
        """Add a step's loss, a scalar. A recorded step does this in every replay."""
        if self._finite is None:
            self._finite = torch.ones((), dtype=torch.bool, device=loss.device)
            self._count = torch.zeros((), dtype=torch.int64, device=loss.device)
        self._finite.logical_and_(torch.isfinite(loss))
        self._count.add_(self._finite)

    def after_step(self) -> int | None:
        """Steps before the first loss that was not finite, once that is known; else None."""
        self._steps += 1
        assert self._finite is not None
        if self._finite.device.type == "cuda":
            return self._look_without_waiting() if self._steps % _LOOK_EVERY == 0 else None
        if self._finite.device.type == "cpu" or self._steps % _LOOK_EVERY == 0:
            return self.look()
        return None

    def look(self) -> int | None:
        """As `after_step`, of all steps until now, waiting for the device."""
        if self._finite is None:
            return None
        count = int(self._count)
        return count if count < self._steps else None

    def _look_without_waiting(self) -> int | None:
        found = None
        if self._snapshot is not None:
            steps, count, copied = self._snapshot
            if not copied.query():
                return None
            found = int(count) if int(count) < steps else None
        count = torch.empty((), dtype=torch.int64, pin_memory=True)
        count.copy_(self._count, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._snapshot = (self._steps, count, copied)
        return found
