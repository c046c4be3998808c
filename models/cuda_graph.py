"""A training step recorded as a CUDA graph and replayed with one launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP_STEPS = 3
"""Ordinary steps before a step is recorded: libraries start up and the optimizer makes its state
in them, neither of which can be recorded."""


class RecordedStep:
    """Replays a training step that was recorded once, on new batches.

    A small network at a batch of 64 keeps a GPU waiting for Python, which launches some hundreds
    of kernels of a few microseconds one by one. A recorded step is one launch. Recording computes
    nothing; random numbers go on where the last step left them. Learning rates are followed, all
    other settings of the optimizer stay as they were recorded.

    Args:
        step: maps a batch to the loss and updates the weights. It must not wait for the device,
            and must find all it reads at the same place in memory every time.
        batch: an example on a CUDA device; all others have its shape and type.
        optimizer: the fused one that `step` uses, which has taken a step before.

    Raises:
        RuntimeError: the step does something that cannot be recorded.
    """

    def __init__(
        self, step: Callable[[Tensor], Tensor], batch: Tensor, optimizer: Optimizer
    ) -> None:
        self._batch = batch.clone()
        self._optimizer = optimizer
        self._set_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._rates = [torch.full((), rate, device=batch.device) for rate in self._set_rates]
        self._graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)  # so that the gradients are part of the graph
        with (
            _random_numbers_survive(batch.device),
            _rates_in_memory(optimizer, self._rates),
            torch.cuda.graph(self._graph),
        ):
            self._loss = step(self._batch)

    def __call__(self, batch: Tensor) -> Tensor:
        """Take the step; returns the loss, a scalar that the next step overwrites."""
        self._batch.copy_(batch)
        for i, group in enumerate(self._optimizer.param_groups):
            if group["lr"] != self._set_rates[i]:
                self._set_rates[i] = group["lr"]
                self._rates[i].fill_(group["lr"])
        self._graph.replay()
        return self._loss


@contextmanager
def _rates_in_memory(optimizer: Optimizer, rates: Sequence[Tensor]) -> Iterator[None]:
    """Let the optimizer read its learning rates from memory; schedules know only numbers."""
    groups = optimizer.param_groups
    before = [(group["lr"], group["capturable"]) for group in groups]
    try:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        yield
    finally:
        for group, (rate_before, capturable) in zip(groups, before, strict=True):
            group["lr"], group["capturable"] = rate_before, capturable


@contextmanager
def _random_numbers_survive(device: torch.device) -> Iterator[None]:
    """After a failure PyTorch's generator would wait for the end of the recording for ever."""
    generator = torch.cuda.default_generators[device.index or 0]
    state = generator.get_state()
    try:
        yield
    except RuntimeError:
        fresh = torch.Generator(device)
        fresh.set_state(state)
        generator.graphsafe_set_state(fresh.graphsafe_get_state())
        raise
