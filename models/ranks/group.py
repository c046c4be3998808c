"""The processes that train one network, and each one's share of a batch.

Each process (rank) holds the whole network and takes every W-th image of each batch, W being their
number. What is nonlinear in the batch (the logarithm of its mean distance, the normalisation, the
norm of its gradient) is computed on all ranks from sums over all of them, so that a training does
not depend on how many processes there are, but for rounding. What a network itself draws at random,
as `nn.Dropout` does, each rank draws for its own rows: there the number of processes matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn


class LostRankError(Exception):
    """Another process of the training does not answer."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among several, which must all make the same calls in one order.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def rows(self, count: int) -> slice:
        """The rows of a batch of `count` images that this process computes.

        Of a batch with fewer images than there are processes, one without a row of its own takes
        the first, which does not count.
        """
        return slice(self.rank, None, self.world) if self.rank < count else slice(0, 1)

    def share(self, count: int) -> Share:
        """This process's share of a batch of `count` images."""
        return Share(self, count)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum of all ranks' gradients."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        total(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        sums = [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, sums)

    def agree(self, module: nn.Module) -> None:
        """Take over the parameters and buffers of rank 0."""
        for value in module.state_dict().values():
            dense = value.contiguous()  # which channels_last is not
            _call(partial(distributed.broadcast, dense, src=0))
            value.copy_(dense)


@dataclass(frozen=True)
class Share:
    """A process's part of a batch of `count` images, of which it sees its own rows only.

    It is what the loss knows as `losses.share.Part`.
    """

    ranks: Ranks
    count: int

    @property
    def own(self) -> int:
        """How many images count as this process's."""
        return len(range(self.ranks.rank, self.count, self.ranks.world))

    def first(self, count: int) -> Share:
        """The same process's part of the batch's first images."""
        return Share(self.ranks, min(count, self.count))

    def rows(self, whole: Tensor) -> Tensor:
        """This process's rows of a tensor (count, ...) that every rank has."""
        return whole[self.ranks.rows(self.count)] if self.ranks.several else whole

    def drawn(self, draw: Callable[..., Tensor], *shape: int, **options: Any) -> Tensor:
        """This process's rows of random numbers (count, *shape), which all ranks draw alike."""
        return self.rows(draw(self.count, *shape, **options))

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the batch, where `value` is that over this process's rows.

        The gradient of what all ranks compute from it alike is the sum of the ranks' gradients.
        """
        if not self.ranks.several:
            return value
        mean: Tensor = _Mean.apply(value, self.own / self.count)
        return mean

    def sum(self, value: Tensor) -> Tensor:
        """The sum of all ranks' values, without a gradient."""
        return total(value * (self.own > 0)) if self.ranks.several else value

    def whole(self, own: Tensor) -> Tensor:
        """Rows (count, ...) of the batch, in its order, where `own` has this process's."""
        if not self.ranks.several:
            return own
        each = -(-self.count // self.ranks.world)
        padded = own.new_zeros(each, *own.shape[1:])
        padded[: self.own] = own[: self.own]
        return gathered(padded, self.ranks.world).transpose(0, 1).flatten(0, 1)[: self.count]


class _Mean(torch.autograd.Function):
    """The sum over the ranks of their weighted values."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return total(value * weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.weight, None


def total(value: Tensor) -> Tensor:
    """The sum over the ranks, in place of the contiguous `value`."""
    _call(partial(distributed.all_reduce, value))
    return value


def gathered(value: Tensor, world: int) -> Tensor:
    """The ranks' tensors of one shape, stacked: (world, ...)."""
    found = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(world)]
    _call(partial(distributed.all_gather, found, value.contiguous()))
    return torch.stack(found)


def _call(collective: Callable[[], Any]) -> None:
    with answered():
        collective()


@contextmanager
def answered() -> Iterator[None]:
    """A context in which an error of the communication is a `LostRankError`."""
    try:
        yield
    except RuntimeError as error:  # of each backend its own
        raise LostRankError(str(error).partition("\n")[0]) from error
