"""Batch normalisation by the statistics of a batch that is spread over several processes.

PyTorch's `SyncBatchNorm` does this on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from models.ranks.group import gathered, total


class SharedBatchNorm(_BatchNorm):
    """Stands in for any batch normalisation, with its parameters and buffers, while it trains.

    Args:
        norm: the one whose place it takes.
        world: how many processes there are.
    """

    def __init__(self, norm: _BatchNorm, world: int) -> None:
        super().__init__(norm.num_features)
        self.__dict__.update(norm.__dict__)
        self._world = world

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # PyTorch's name
        pass

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not self.training:
            return super().forward(input)
        y, mean, variance, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, self._world
        )
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            share = 1 / float(self.num_batches_tracked) if momentum is None else momentum
            self.running_mean.lerp_(mean.to(self.running_mean), share)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var), share)
        result: Tensor = y
        return result


def share_batch_norms(network: nn.Module, world: int) -> None:
    """Let every batch normalisation in a network be one over all processes."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm(child, world))


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over all processes' x (B, C, ...)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, world: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Several times as fast as `var_mean`; in float32, as the statistics are that it updates.
        unused = torch.zeros(2, x.shape[1], device=x.device)
        mean, variance = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
        own = mean.new_full((1,), x.numel() / len(mean))
        counts, means, variances = gathered(torch.cat([own, mean, variance]), world).split(
            [1, len(mean), len(mean)], dim=1
        )
        count = counts.sum()
        shares = counts / count
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, variance, own, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, own, count = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        # As if the batch were this process's part; the sums are those of the whole.
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
        )
        sums = torch.stack([d_bias, d_weight]).float()
        less, slope = sums / own - total(sums.clone()) / count
        factor = scale if weight is None else scale * weight
        slope = factor * scale * slope
        less = factor * less - slope * mean
        shape = [1, -1, *[1] * (x.ndim - 2)]
        dx = dx.add_(less.view(shape).to(dx)).addcmul_(x, slope.view(shape).to(dx))
        has_weight = weight is not None
        return dx, d_weight if has_weight else None, d_bias if has_weight else None, None, None
