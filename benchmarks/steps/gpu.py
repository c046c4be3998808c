"""How fast the default network trains on a GPU, how near that is to its limit, and what is missing.

    python -m benchmarks.steps.gpu

First the device's own limits: a large matrix product and a large copy. Then one bare training step
(bytes to floats, forward, backward, clipping, AdamW; batch 64) at 64x64 and 128x128 under three
losses: plain; as a CUDA graph; with the network compiled by `mode="reduce-overhead"`; with the
network compiled, in a CUDA graph. Last `run.py`'s whole training beside the bare step.

- `limit` is the larger of operations / FLOP/s and bytes / (bytes/s): what the step would take if
  its kernels, each reading and writing its own tensors, ran at the measured limits. Fused kernels
  and the cache move fewer bytes, so a step can be faster.
- `repaid` is the number of steps after which the time to prepare is won back against plain. The
  network is compiled once for a size, in the row of the first loss.
- `held back by`: launches, if a graph is 1.3 times as fast; else memory or arithmetic, if half of
  that limit is reached; else small kernels, too short to fill the device.

`--device cpu` tries the command without a GPU.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.common import composed, machine
from benchmarks.steps.steps import (
    BATCH,
    Bare,
    bare,
    ceilings,
    images,
    milliseconds,
    recorded,
    wait,
    waits_are_errors,
    work,
)  # fmt: skip

MODES = ("plain", "graph", "compiled", "compiled, graph")
RECORDED = {"plain": "graph", "compiled": "compiled, graph"}
HARNESS = {
    "plain": ["trainer.cuda_graph=false"],
    "graph": [],
    "graph, one validation": ["trainer.validate_every=1000"],
}


class Row(NamedTuple):
    """One way to train under one loss at one size."""

    side: int
    loss: str
    mode: str
    ms: float
    prepare: float
    """Seconds until the first steady step."""
    limit: float
    """Milliseconds."""
    bound: str
    """Which limit that is."""


def prepared(step: Bare, mode: str, batch: torch.Tensor) -> Callable[[torch.Tensor], Any]:
    """The step in that mode, warm."""
    if mode.startswith("compiled"):
        graphs = "," not in mode
        step.forward = torch.compile(
            step.forward, mode="reduce-overhead" if graphs else None, dynamic=False
        )
    if mode.endswith("graph"):
        return recorded(step, batch)
    for _ in range(4):
        step(batch)
    return step


def measure(side: int, loss: str, mode: str, device: str, seconds: float, limits: Any) -> Row:
    """Time one way to train."""
    mixed = device == "cuda"
    pool = images(BATCH * 16, side, device)
    order = torch.randperm(len(pool), device=device).split(BATCH)
    step = bare(loss, side, device, mixed=mixed)
    floating, moved = work(bare(loss, side, device, mixed=mixed), pool[:BATCH])
    wait(device)
    started = time.perf_counter()
    ready = prepared(step, mode, pool[order[0]])
    wait(device)
    prepare = time.perf_counter() - started
    turn = iter(range(10**9))

    def run() -> None:
        ready(pool.index_select(0, order[next(turn) % len(order)]))

    ms = milliseconds(run, device, seconds=seconds)
    with waits_are_errors(device):
        for _ in range(20):
            run()
    products, traffic = 1000 * floating / limits[0], 1000 * moved / limits[1]
    return Row(side, loss, mode, ms, prepare, max(products, traffic),
               "memory" if traffic > products else "arithmetic")  # fmt: skip


def kernels(side: int, loss: str) -> tuple[int, float]:
    """Kernels of a plain step, and the milliseconds that they run."""
    from torch.profiler import ProfilerActivity, profile

    batch = images(BATCH, side, "cuda")
    step = bare(loss, side, "cuda", mixed=True)
    for _ in range(3):
        step(batch)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step(batch)
        torch.cuda.synchronize()
    of_device = [e for e in profiled.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return len(of_device), sum(e.time_range.elapsed_us() for e in of_device) / 1000


def whole(side: int, loss: str, settings: list[str], device: str, count: int, epochs: int) -> float:
    """Milliseconds a step of `run.py`, validations, metrics and checkpoints included."""
    from experiments.record import read_result
    from experiments.trial import run_trial

    config = composed(
        f"data.size={side}", f"data.count={count}", f"loss={loss}", f"max_epochs={epochs}",
        "logger=none", "trainer.progress=false", "evaluation.samples=64",
        "trainer.early_stopping_patience=null", f"trainer.device={device}", *settings,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        run_trial(config, directory, in_sweep=True)
        result = read_result(directory)
    return 1000 * float(result["timings"]["fit_seconds"]) / int(result["steps"])


def held_back(row: Row, same: dict[str, Row]) -> str:
    """In a few words; `same` are the other ways under that loss at that size."""
    graph = same.get(RECORDED.get(row.mode, ""))
    if graph is not None and row.ms > 1.3 * graph.ms:
        return "launches"
    return row.bound if row.limit > 0.5 * row.ms else "small kernels"


def print_steps(rows: list[Row]) -> None:
    """Rows of the table of bare steps, all of one size and loss."""
    same = {row.mode: row for row in rows}
    for row in rows:
        plain = same.get("plain", row)
        gain = (plain.ms - row.ms) / 1000
        steps = math.ceil(max(row.prepare - plain.prepare, 0) / gain) if gain > 0 else None
        repaid = "" if steps is None else f"{steps} steps"
        print(
            f"| {row.side} | {row.loss} | {row.mode} | {row.ms:.3f} | {1000 * BATCH / row.ms:,.0f} "
            f"| {plain.ms / row.ms:.2f} | {row.limit / row.ms:.0%} ({row.bound}) "
            f"| {held_back(row, same)} | {row.prepare:.1f} s | {repaid} |",
            flush=True,
        )


def print_whole(
    rows: list[Row], sides: list[int], names: list[str], device: str, count: int, epochs: int
) -> None:
    """The table of `run.py` beside the bare step."""
    whole(sides[0], names[0], [], device, count, 1)  # warm up
    ways = HARNESS if device == "cuda" else {"plain": []}
    print(f"\n`run.py`, {count} drawn cats, {epochs} epochs\n")
    print("| size | loss | `run.py` | ms a step | images/s | of the bare step's speed |")
    print(f"|{'---|' * 6}")
    for side in sides:
        for name in names:
            for title, settings in ways.items():
                mode = title.partition(",")[0]
                same = [r.ms for r in rows if (r.side, r.loss, r.mode) == (side, name, mode)]
                ms = whole(side, name, settings, device, count, epochs)
                share = f"{same[0] / ms:.0%}" if same else ""
                print(
                    f"| {side} | {name} | {title} | {ms:.3f} | {1000 * BATCH / ms:,.0f} "
                    f"| {share} |",
                    flush=True,
                )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--losses", nargs="+", default=["mse", "ssim", "kornia_ms_ssim"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--count", type=int, default=4000, help="images of `run.py`; 0: leave out")
    parser.add_argument("--epochs", type=int, default=30)
    a = parser.parse_args()
    if a.device == "cuda" and not torch.cuda.is_available():
        parser.error("needs a CUDA device, and there is none; --device cpu tries the command")
    modes = [mode for mode in a.modes if a.device == "cuda" or "graph" not in mode]
    torch.backends.cudnn.deterministic = True  # as `run.py` has it
    limits = ceilings(a.device, mixed=a.device == "cuda")
    name = torch.cuda.get_device_name() if a.device == "cuda" else machine()
    print(f"{name}, torch {torch.__version__}: {limits[0] / 1e12:.3g} TFLOP/s in a large product, "
          f"{limits[1] / 1e12:.3g} TB/s in a large copy")  # fmt: skip
    print("\n| size | loss | step | ms | images/s | times plain | of the limit | held back by "
          f"| ready in | repaid |\n|{'---|' * 10}")  # fmt: skip
    rows: list[Row] = []
    for side in a.sides:
        for loss in a.losses:
            ways = [measure(side, loss, mode, a.device, a.seconds, limits) for mode in modes]
            print_steps(ways)
            rows += ways
    if a.device == "cuda":
        print(f"\n| size | loss | kernels of a step | they run, ms |\n|{'---|' * 4}")
        for side in a.sides:
            for loss in a.losses:
                number, ms = kernels(side, loss)
                print(f"| {side} | {loss} | {number} | {ms:.3f} |")
    if a.count:
        print_whole(rows, a.sides, a.losses, a.device, a.count, a.epochs)


if __name__ == "__main__":
    main()
