"""Seconds that W&B adds to a whole `run.py`, with and without a key and a server.

python -m benchmarks.training.wandb_modes

The servers are those of the tests, on loopback: what W&B's own takes to answer is not in this.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import ROOT, machine
from tests.conftest import TINY, isolated_wandb
from tests.wandb_server import KEY, run_wandb_server

_PLAIN = "logger=none"
_AIM = 3.0  # seconds


def seconds(directory: Path, environment: Mapping[str, str], logger: str) -> float:
    """Wall time of a tiny training in a process of its own."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *TINY, f"logger={logger}"],
        cwd=directory,
        env=dict(environment),
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


@contextmanager
def ways(home: Path) -> Iterator[dict[str, tuple[str, dict[str, str]]]]:
    """Logger and environment of each way, by its name."""
    base = isolated_wandb(home) | {"OMP_NUM_THREADS": "1", "VAESWEEP_CACHE": str(home / "cache")}
    with socket.create_server(("127.0.0.1", 0)) as found:
        closed = found.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as deaf, run_wandb_server() as server:
        url = server.environment["WANDB_BASE_URL"]
        silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        yield {
            _PLAIN: ("none", base),
            "no key": ("wandb", base | {"WANDB_BASE_URL": url}),
            "a key, a closed port": (
                "wandb",
                base | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{closed}"},
            ),
            "a key, no such server": (
                "wandb",
                base | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://wandb.invalid"},
            ),
            "a wrong key": (
                "wandb",
                base | {"WANDB_API_KEY": "w" * 40, "WANDB_BASE_URL": url},
            ),
            "a key and a server": ("wandb", base | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}),
            "a key, a server that never answers": (
                "wandb",
                base | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": silent},
            ),
        }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch, ways(Path(scratch)) as tried:
        measured: dict[str, list[float]] = {name: [] for name in tried}
        logger, environment = tried[_PLAIN]
        seconds(Path(scratch), environment, logger)  # draw the cats, compile the bytecode
        for _ in range(rounds):
            for name, (logger, environment) in tried.items():
                measured[name].append(seconds(Path(scratch), environment, logger))
    print(f"\na tiny run.py, {rounds} rounds, medians; aim: {_AIM:g} s more or less\n{machine()}")
    print(f"{'':<36}{'seconds':>9}{'more':>8}  lowest to highest")
    for name, values in measured.items():
        more = sorted(v - b for v, b in zip(values, measured[_PLAIN], strict=True))
        print(
            f"{name:<36}{statistics.median(values):>9.2f}{statistics.median(more):>8.2f}  "
            f"{more[0]:.2f} to {more[-1]:.2f}"
        )


if __name__ == "__main__":
    main()
