"""What a loss must know of a batch of which it sees a part only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Part(Protocol):
    """A process's part of a batch that several processes share."""

    @property
    def own(self) -> int:
        """How many images of the batch are in the part."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the batch, where `value` is that over the part; differentiable."""

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the batch, where `value` is that over the part; without a gradient."""

    def first(self, count: int) -> Part:
        """The part of the batch's first images that is in this one."""


@dataclass(frozen=True)
class _Whole:
    """The part is the batch."""

    own: int = 0

    def mean(self, value: Tensor) -> Tensor:
        return value

    def sum(self, value: Tensor) -> Tensor:
        return value

    def first(self, count: int) -> Part:
        return _Whole(count)


WHOLE: Part = _Whole()
