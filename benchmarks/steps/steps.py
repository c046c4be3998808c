"""The bare training step that `gpu.py` and `fused.py` time, and how they time it."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import losses
import models
from losses.elbo import ELBO
from models.clipping import AdaptiveClipping
from models.cuda_graph import WARM_UP_STEPS, RecordedStep
from models.network import sample_posterior
from models.optimizers import adamw

BATCH = 64
LATENT = 32
CLIP = 5.0


@dataclass
class Bare:
    """A network, its loss and its optimizer, and one step of training as a plain function."""

    network: Any
    loss: ELBO
    optimizer: torch.optim.Optimizer
    forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    device: str
    mixed: bool
    clipping: AdaptiveClipping

    def __call__(self, batch: Tensor) -> Tensor:
        """Bytes (B, 3, H, W) in, the loss out; as the product's step, without its bookkeeping."""
        layout = torch.channels_last if self.mixed else torch.contiguous_format
        x = batch.to(torch.float32, memory_format=layout).div_(255)
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed):
            mean, log_variance, x_hat = self.forward(x)
            loss = self.loss(x_hat, x, mean, log_variance)["loss"]
        loss.backward()
        self.clipping.begin_step()
        self.clipping(self.network.parameters())
        self.optimizer.step()
        return loss.detach()


def bare(loss: str, side: int, device: str, *, mixed: bool, seed: int = 0, lr: float = 1e-3,
         width: int = 32, beta: float = 1.0, scale: str = "optimal_sigma") -> Bare:  # fmt: skip
    """The default network under a loss, ready to train."""
    torch.manual_seed(seed)
    network = models.create("conv", image_shape=(3, side, side), latent_dim=LATENT, width=width)
    network.to(device, memory_format=torch.channels_last if mixed else torch.contiguous_format)  # type: ignore[call-overload]

    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = network.encode(x)
        return mean, log_variance, network.decode(sample_posterior(mean, log_variance))

    elbo = ELBO(losses.create(loss), beta=beta, scale=scale).to(device)
    optimizer = adamw(network.parameters(), lr=lr, weight_decay=0.01)
    clipping = AdaptiveClipping(CLIP)
    clipping.to(torch.device(device))
    return Bare(network, elbo, optimizer, forward, device, mixed, clipping)


def images(count: int, side: int, device: str) -> Tensor:
    """Smooth random images, bytes (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (255 * fine).to(torch.uint8).to(device)


def recorded(step: Bare, batch: Tensor) -> Callable[[Tensor], Tensor]:
    """The step as a CUDA graph."""
    for _ in range(WARM_UP_STEPS):
        step(batch)
    return RecordedStep(step, batch, step.optimizer)


def wait(device: str) -> None:
    """Until the device has done all."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(run: Callable[[], Any], device: str, *, seconds: float, rounds: int = 5) -> float:
    """Median time of a call, over rounds of many calls that are not waited for one by one."""
    for _ in range(3):
        run()
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    once = time.perf_counter() - started
    calls = max(1, int(seconds / rounds / max(once, 1e-5)))
    measured = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            run()
        wait(device)
        measured.append((time.perf_counter() - started) / calls)
    return 1000 * statistics.median(measured)


class _Bytes(TorchDispatchMode):
    """Adds up what each operation reads and writes, views left out."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.overloadpacket.__name__:
            self.total += sum(_sizes((args, kwargs))) + sum(_sizes(out))
        return out


def _sizes(value: Any) -> Iterator[int]:
    if isinstance(value, Tensor):
        yield value.numel() * value.element_size()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _sizes(each)
    elif isinstance(value, dict):
        yield from _sizes(list(value.values()))


def work(step: Callable[[Tensor], Any], batch: Tensor) -> tuple[float, float]:
    """Floating-point operations of a step's products and convolutions, and bytes of all of it.

    The bytes are those that each operation reads and writes on its own, as eager PyTorch runs it.
    """
    with FlopCounterMode(display=False) as flops:
        step(batch)
    with _Bytes() as traffic:
        step(batch)
    return flops.get_total_flops(), traffic.total


def ceilings(device: str, *, mixed: bool) -> tuple[float, float]:
    """FLOP/s of a large product and bytes/s, read and written, of a large copy, as measured."""
    n, size = (8192, 2**30) if device == "cuda" else (1024, 2**26)
    dtype = torch.bfloat16 if mixed else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    product = milliseconds(lambda: a @ b, device, seconds=0.5) / 1000
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = milliseconds(lambda: target.copy_(source), device, seconds=0.5) / 1000
    return 2 * n**3 / product, 2 * size / copy


@contextmanager
def waits_are_errors(device: str) -> Iterator[None]:
    """Make every wait for the GPU an error."""
    if device == "cuda":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it is a prototype
            torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
