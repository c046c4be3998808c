"""A data set that is larger than the memory: what a process holds, and how fast batches come.

    python -m benchmarks.training.many_images --directory DISK

Makes 1,000,000 images of 64x64 (12 GB; as much again for the cache), and has `run.py` prepare them,
train an epoch with a small network and score: the peak of each process's anonymous memory, stage by
stage. Then the images per second of training steps of which the images are gathered from the memory
map, in the page cache, beside the same from an array in memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, print_ratios, result

SIDE = 64
_CHUNK = 2000
_STAGES = {"computes on": "training", "epoch 1/1": "scoring"}
"""How the line begins with which a stage does."""
_STEPS = 40


def make(path: Path, count: int) -> None:
    """Blurred noise, each image another, as an array (count, 64, 64, 3)."""
    made = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 3))
    generator = np.random.default_rng(0)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        coarse = generator.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
        made[start : start + size] = coarse.repeat(8, axis=1).repeat(8, axis=2)
    made.flush()


def anonymous(pid: int) -> int:
    """Bytes of a process that are no file's; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it started, which live."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from descendants(int(child))


def peaks(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """GiB of anonymous memory at most that a process of the command holds, by stage."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    stage, most, done = ["preparing"], {"preparing": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(1.0):  # reading the map of 12 GB takes a while
            held = max(map(anonymous, descendants(process.pid)), default=0) / 2**30
            most[stage[0]] = max(most.get(stage[0], 0.0), held)

    thread = threading.Thread(target=watch)
    thread.start()
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        found = [new for word, new in _STAGES.items() if line.startswith(word)]
        stage[0] = found[0] if found else stage[0]
    done.set()
    thread.join()
    if process.wait():
        sys.exit(process.returncode)
    return most


def speeds(path: Path, rounds: int) -> dict[str, list[float]]:
    """Images per second of training steps of the default network, by where the images lie."""
    import torch

    from benchmarks.steps.losses import create as create_loss
    from experiments.data import Batches, to_float
    from losses.elbo import ELBO
    from models import create

    mapped = np.load(path, mmap_mode="r")[:50_000].reshape(-1, 3, SIDE, SIDE)
    images = {"in memory": np.ascontiguousarray(mapped), "memory map": mapped}
    network = create("conv", image_shape=(3, SIDE, SIDE), latent_dim=32)
    elbo, optimizer = ELBO(create_loss("mse")), torch.optim.AdamW(network.parameters())
    found: dict[str, list[float]] = {name: [] for name in images}
    for _ in range(rounds):
        for name, source in images.items():
            batches = Batches(
                source, np.arange(len(source)), batch_size=128, shuffle=True, seed=0, drop_last=True
            )
            started = time.perf_counter()
            for batch, _step in zip(batches, range(_STEPS), strict=False):
                x = to_float(batch)
                mean, log_variance = network.encode(x)
                loss = elbo(network.decode(mean), x, mean, log_variance)["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found[name].append(_STEPS * 128 / (time.perf_counter() - started))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="with 26 GB of space (default: temporary)")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        path = Path(directory, "images.npy")
        make(path, chosen.images)
        command = [
            sys.executable, "run.py", "data=images", f"data.root={path}", "max_epochs=1",
            "model.width=4", "batch_size=256", "logger=none", f"hydra.run.dir={directory}/run",
        ]  # fmt: skip
        environment = {**os.environ, "VAESWEEP_CACHE": f"{directory}/cache"}
        for stage, gib in peaks(command, environment).items():
            print(f"{stage}: {gib:.2f} GiB of anonymous memory in a process at most")
            result(f"{chosen.images:,} images, {stage}", gib, "<= 1.5", unit="GiB")
        found = speeds(path, chosen.rounds)
        print_ratios("training steps, images per second", found, "in memory", "images/s")


if __name__ == "__main__":
    main()
