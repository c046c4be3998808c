"""What a structural loss costs, beside the library whose number it computes.

    python -m benchmarks.steps.losses

Forward and backward of a batch of 64 images, at 64x64 and 128x128, on one thread and on two; both
backends in one process, in turn. Then the peak memory of each, in a process of its own. Kornia's
MS-SSIM takes up to a minute a call by the library; `--sides 64` leaves the larger images out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import ROOT, machine, result

LOSSES = {"kornia_ms_ssim": (20, 40), "kornia_ssim": (4, 4), "ssim": (2.5, 2.5)}
"""The aims, times faster than the library, at 64x64 and at 128x128."""

_BATCH = 64
_LONG = 10.0  # seconds, after which a backend has no more rounds


def step(name: str, side: int, backend: str | None = None) -> Callable[[], None]:
    """One forward and backward of a loss."""
    import torch

    import losses

    options = {} if backend is None else {"backend": backend}
    distance = losses.create(name, **options)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(_BATCH, 3, side, side, generator=generator)
    noise = torch.rand(_BATCH, 3, side, side, generator=generator)
    x_hat = (0.8 * x + 0.2 * noise).requires_grad_()

    def run() -> None:
        x_hat.grad = None
        distance(x_hat, x).sum().backward()

    return run


def times(
    names: Sequence[str], side: int, threads: int, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each loss and backend, in turn."""
    import torch

    torch.set_num_threads(threads)
    steps = {f"{name} {b}": step(name, side, b) for name in names for b in ("fast", "library")}
    steps["mse"] = step("mse", side)
    measured: dict[str, list[float]] = {name: [] for name in steps}
    for name, run in steps.items():
        if "kornia_ms_ssim library" not in name:  # whose first call says enough
            run()
    for _ in range(rounds):
        for name, run in steps.items():
            if sum(measured[name]) > _LONG:
                continue
            started = clock()
            run()
            measured[name].append(clock() - started)
    return {name: 1000 * statistics.median(values) for name, values in measured.items()}


def peak(name: str, side: int, backend: str) -> float:
    """MiB that a call needs above what the process had before (Linux)."""
    step(name, 32, backend)()  # libraries and matrices
    run = step(name, side, backend)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # sets the peak back
    before = _mebibytes("VmRSS")
    run()
    return _mebibytes("VmHWM") - before


def _mebibytes(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def in_process(*arguments: object) -> float:
    """`peak` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steps.losses", "--peak", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu, on one thread: for a machine that is not idle")  # fmt: skip
    parser.add_argument("--peak", nargs=3, metavar=("LOSS", "SIDE", "BACKEND"))
    arguments = parser.parse_args()
    if arguments.peak:
        name, side, backend = arguments.peak
        print(json.dumps(peak(name, int(side), backend)))
        return
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[arguments.clock]
    print(f"forward and backward of {_BATCH} images, {arguments.clock} time; {machine()}")
    for side in arguments.sides:
        memory = {
            (name, b): in_process(name, side, b)
            for name in arguments.losses
            for b in ("fast", "library")
        }
        for name in arguments.losses:
            ours, theirs = (memory[name, backend] for backend in ("fast", "library"))
            result(
                f"{name} at {side}x{side}, peak memory of the library's",
                ours / theirs,
                "<= 1",
                beside=f"{ours:.0f} and {theirs:.0f} MiB",
            )
        for threads in arguments.threads:
            found = times(arguments.losses, side, threads, arguments.rounds, clock)
            print(
                f"\n{side}x{side}, {threads} thread{'s' * (threads > 1)}; mse {found['mse']:.0f} ms"
            )
            print(f"{'':<15} {'fast, ms':>9} {'library':>9} {'times':>6} {'aim':>5} "
                  f"{'fast, MiB':>10} {'library':>8}")  # fmt: skip
            for name in arguments.losses:
                aim = LOSSES[name][side >= 128]
                fast, library = found[f"{name} fast"], found[f"{name} library"]
                result(
                    f"{name} at {side}x{side}, threads: {threads}",
                    library / fast,
                    f">= {aim}",
                    beside=f"{fast:.0f} and {library:.0f} ms",
                )
                print(
                    f"{name:<15} {fast:>9.0f} {library:>9.0f} {library / fast:>6.1f} "
                    f"{aim:>5} {memory[name, 'fast']:>10.0f} "
                    f"{memory[name, 'library']:>8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
