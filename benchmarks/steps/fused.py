"""Several trials of one architecture on one GPU: fused into one program, side by side, in turn.

    python -m benchmarks.steps.fused

K trials with their own seed, learning rate and `beta`, images per second of all together:

- `in turn`: K CUDA graphs, one after another, in one process (the base of the ratios);
- `streams`: the same graphs, each on a stream of its own;
- `processes`: K processes with a graph each, as `sweep.trials_per_gpu=K` runs them;
- `grouped`: one program of grouped convolutions and batched products, as a CUDA graph;
- `vmap`: one program by `torch.func.vmap(grad(...))`, as a CUDA graph. Batch norm keeps no running
  statistics in it, which `vmap` cannot update.

All weights of a fused program lie in one matrix (K, P): gradients are clipped and AdamW acts row by
row, so that every trial has its own. `--check` compares `grouped` with trials trained one by one.
`--device cpu` tries the command without a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from benchmarks.steps.steps import BATCH, CLIP, LATENT, Bare, bare, images, milliseconds, recorded
from losses.elbo import kl_divergence
from models.cuda_graph import WARM_UP_STEPS, RecordedStep
from models.network import _LOG_VARIANCE_RANGE

WAYS = ("in turn", "streams", "processes", "grouped", "vmap")
Gradients = Callable[["Stacked", Tensor, Tensor], None]


def trials(count: int, loss: str, side: int, device: str, *, mixed: bool, width: int) -> list[Bare]:
    """Networks with their own seed, learning rate and `beta`."""
    return [
        bare(loss, side, device, mixed=mixed, width=width, seed=k, lr=1e-3 / (1 + k % 4),
             beta=1 + k / 8)
        for k in range(count)
    ]  # fmt: skip


class Stacked:
    """The weights of K trials as rows of one matrix, and a training step for all of them."""

    def __init__(self, singles: Sequence[Bare], gradients: Gradients) -> None:
        self.single, self.count = singles[0], len(singles)
        self._gradients = gradients
        # Weights that decay come first, so that each row is two stretches for AdamW.
        named = sorted(self.single.network.named_parameters(), key=lambda item: item[1].ndim <= 1)
        rows = [dict(s.network.named_parameters()) for s in singles]
        self.flat = torch.stack(
            [torch.cat([row[name].detach().flatten() for name, _ in named]) for row in rows]
        )
        self.flat_grad = torch.zeros_like(self.flat)
        self.weights: dict[str, Tensor] = {}
        self.grads: dict[str, Tensor] = {}
        start = 0
        for name, p in named:
            part = slice(start, start + p.numel())
            self.weights[name] = self.flat[:, part].view(-1, *p.shape).requires_grad_()
            self.grads[name] = self.flat_grad[:, part].view(-1, *p.shape)
            start += p.numel()
        decaying = sum(p.numel() for _, p in named if p.ndim > 1)
        self.statistics = {
            name: torch.cat([dict(s.network.named_buffers())[name] for s in singles])
            for name, _ in self.single.network.named_buffers()
            if "running" in name
        }
        self.beta = torch.tensor([s.loss.beta for s in singles], device=self.flat.device)
        self._rows = [
            (self.flat[k, part], self.flat_grad[k, part])
            for k in range(self.count)
            for part in (slice(decaying), slice(decaying, None))
        ]
        groups = [
            {"params": [row], "lr": singles[i // 2].optimizer.param_groups[0]["lr"],
             "weight_decay": 0.0 if i % 2 else 0.01}
            for i, (row, _) in enumerate(self._rows)
        ]  # fmt: skip
        self.optimizer = torch.optim.AdamW(groups, fused=True)

    def __call__(self, batches: Tensor, noise: Tensor | None = None) -> Tensor:
        """A step on bytes (K, B, 3, H, W) with noise (K, B, L); returns the gradients' norms."""
        x = batches.float().div_(255)
        if noise is None:
            noise = torch.randn(*x.shape[:2], LATENT, device=x.device)
        self._gradients(self, x, noise)
        norms = self.flat_grad.norm(dim=1)
        self.flat_grad.mul_((CLIP / (norms + 1e-6)).clamp(max=1)[:, None])
        for row, gradient in self._rows:
            row.grad = gradient
        self.optimizer.step()
        return norms


def grouped(stacked: Stacked, x: Tensor, noise: Tensor) -> None:
    """Gradients by one pass of a network with K times the channels, in K groups."""
    stacked.flat_grad.zero_()
    for name, weight in stacked.weights.items():
        weight.grad = stacked.grads[name]
    single, count = stacked.single, stacked.count
    layout = torch.channels_last if single.mixed else torch.contiguous_format
    with torch.autocast(single.device, torch.bfloat16, enabled=single.mixed):
        h = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=layout)
        h = _layers(stacked, "encoder", h)
        h = _linear(stacked, "to_posterior", h.flatten(2).unflatten(1, (count, -1)).flatten(2))
        mean, log_variance = h.float().chunk(2, dim=2)
        log_variance = log_variance.clamp(*_LOG_VARIANCE_RANGE)
        z = mean + noise * torch.exp(0.5 * log_variance)
        h = _linear(stacked, "from_latent", z.transpose(0, 1)).transpose(0, 1)
        h = h.unflatten(2, single.network._deepest).flatten(1, 2)
        h = _layers(stacked, "decoder", h.contiguous(memory_format=layout))
        x_hat = torch.sigmoid(h.float()).unflatten(1, (count, -1)).transpose(0, 1)
    distance = single.loss.distance(x_hat.flatten(0, 1).contiguous(), x.flatten(0, 1))
    values = x[0, 0].numel()
    reconstruction = 0.5 * values * distance.view(count, -1).mean(1).log()
    kl = kl_divergence(mean, log_variance).mean(1).sum(1)
    (reconstruction + stacked.beta * kl).sum().backward()


def _layers(stacked: Stacked, part: str, h: Tensor) -> Tensor:
    for i, layer in enumerate(getattr(stacked.single.network, part)):
        name = f"{part}.{i}"
        weight, bias = (stacked.weights.get(f"{name}.{kind}") for kind in ("weight", "bias"))
        if weight is None:
            h = F.silu(h)
            continue
        flat_bias = None if bias is None else bias.flatten()
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance = (stacked.statistics[f"{name}.running_{s}"] for s in ("mean", "var"))
            h = F.batch_norm(h, mean, variance, weight.flatten(), flat_bias, True, 0.1, layer.eps)
            continue
        convolve = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv_transpose2d
        h = convolve(h, weight.flatten(0, 1), flat_bias, stride=2, padding=1, groups=stacked.count)  # type: ignore[operator]
    return h


def _linear(stacked: Stacked, name: str, h: Tensor) -> Tensor:
    """(B, K, F) to (K, B, G)."""
    weight, bias = stacked.weights[f"{name}.weight"], stacked.weights[f"{name}.bias"]
    return torch.baddbmm(bias[:, None], h.transpose(0, 1), weight.mT)


def by_vmap(stacked: Stacked, x: Tensor, noise: Tensor) -> None:
    """Gradients by `vmap(grad(...))` of the product's network and loss."""
    single = stacked.single
    for module in single.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False

    # Under autocast, vmap's backward mixes types.
    dtype = torch.bfloat16 if single.mixed else torch.float32

    def objective(weights: dict[str, Tensor], x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        cast = {f"network.{name}": weight.to(dtype) for name, weight in weights.items()}
        mean, log_variance, x_hat = functional_call(
            _Pass(single.network), cast, (x.to(dtype), noise)
        )
        reconstruction = 0.5 * x[0].numel() * single.loss.distance(x_hat, x).mean().log()
        return reconstruction + beta * kl_divergence(mean, log_variance).mean(0).sum()

    weights = {name: weight.detach() for name, weight in stacked.weights.items()}
    found = vmap(grad(objective))(weights, x, noise, stacked.beta)
    for name, gradient in found.items():
        stacked.grads[name].copy_(gradient)


class _Pass(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.network.encode(x)
        z = mean + noise * torch.exp(0.5 * log_variance)
        return mean, log_variance, self.network.decode(z.to(x.dtype))


def largest_difference(count: int, side: int, device: str, steps: int, width: int) -> float:
    """Between weights trained grouped and one by one in float32, relative to each weight's norm."""
    singles = trials(count, "mse", side, device, mixed=False, width=width)
    together = Stacked(singles, grouped)
    data = images(BATCH * steps * count, side, device).view(steps, count, BATCH, 3, side, side)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(steps, count, BATCH, LATENT, generator=generator).to(device)
    for step in range(steps):
        together(data[step], noise[step])
        for k, single in enumerate(singles):
            run = _Pass(single.network)
            single.forward = lambda x, run=run, eps=noise[step, k]: run(x, eps)  # type: ignore[misc]
            single(data[step, k])
    return max(
        float((together.weights[name][k] - p).detach().norm() / p.detach().norm().clamp_min(1e-3))
        for k, single in enumerate(singles)
        for name, p in single.network.named_parameters()
    )


def ready(way: str, count: int, loss: str, side: int, device: str, width: int) -> Callable[[], Any]:
    """A function that takes one step of every trial."""
    mixed = device == "cuda"
    singles = trials(count, loss, side, device, mixed=mixed, width=width)
    batches = images(BATCH * count, side, device).view(count, BATCH, 3, side, side)
    if way in ("grouped", "vmap"):
        stacked = Stacked(singles, grouped if way == "grouped" else by_vmap)
        for _ in range(WARM_UP_STEPS):
            stacked(batches)
        step = RecordedStep(stacked, batches, stacked.optimizer) if mixed else stacked
        return lambda: step(batches)
    steps = [recorded(s, b) if mixed else s for s, b in zip(singles, batches, strict=True)]
    if way == "in turn":
        return lambda: [step(b) for step, b in zip(steps, batches, strict=True)]
    streams = [torch.cuda.Stream() for _ in steps]

    def side_by_side() -> None:
        for step, batch, stream in zip(steps, batches, streams, strict=True):
            with torch.cuda.stream(stream):
                step(batch)

    return side_by_side


def _process(loss: str, side: int, device: str, width: int, seconds: float, start: Any,
             found: Any) -> None:  # fmt: skip
    torch.backends.cudnn.deterministic = True
    run = ready("in turn", 1, loss, side, device, width)
    milliseconds(run, device, seconds=0.1)
    start.wait()
    steps, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(20 if device == "cuda" else 1):
            run()
            steps += 1
        if device == "cuda":
            torch.cuda.synchronize()
    found.put(steps / (time.perf_counter() - end + seconds))


def by_processes(
    count: int, loss: str, side: int, device: str, width: int, seconds: float
) -> float:
    """Milliseconds in which every process takes a step, on average."""
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(count), context.Queue()
    shared = (loss, side, device, width, seconds, start, found)
    processes = [context.Process(target=_process, args=shared) for _ in range(count)]
    for process in processes:
        process.start()
    rates = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return 1000 * count / sum(rates)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--widths", type=int, nargs="+", default=[32])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--loss", default="mse", help="vmap takes only those of single pixels")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--check", type=int, default=10, help="steps of the comparison; 0: none")
    a = parser.parse_args()
    if a.device == "cuda":
        if not torch.cuda.is_available():
            parser.error("needs a CUDA device, and there is none; --device cpu tries the command")
        torch.backends.cudnn.deterministic = True  # as `run.py` has it
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "ieee"
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {a.loss}, batch {BATCH}")
    if a.check:
        off = largest_difference(3, a.sides[0], a.device, a.check, a.widths[0])
        print(f"grouped and one by one, {a.check} steps in float32: weights differ by {off:.1e}")
    ways = [w for w in a.ways if a.device == "cuda" or w not in ("streams", "processes")]
    print(f"\n| size | width | K | {' | '.join(ways)} |\n|{'---|' * (3 + len(ways))}")
    for side in a.sides:
        for width in a.widths:
            for count in a.counts:
                cells, base = [], 0.0
                for way in ways:
                    try:
                        ms = (
                            by_processes(count, a.loss, side, a.device, width, 2 * a.seconds)
                            if way == "processes"
                            else milliseconds(
                                ready(way, count, a.loss, side, a.device, width), a.device,
                                seconds=a.seconds,
                            )
                        )  # fmt: skip
                    except (RuntimeError, NotImplementedError) as error:
                        cells.append(f"fails: {str(error).splitlines()[0][:60]}")
                        continue
                    base = base or ms
                    cells.append(f"{1000 * BATCH * count / ms:,.0f} ({base / ms:.2f})")
                print(f"| {side} | {width} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
