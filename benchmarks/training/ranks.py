"""Images a second of one training on two processes of one thread, beside one process of one thread.

    python -m benchmarks.training.ranks

Runs `run.py` itself on drawn cats with `trainer.threads=1`, in rounds in which every way takes its
turn, on a machine that is otherwise idle and has two cores or more. Two trainings of one process
each, side by side, show what the machine gives to two processes that share nothing; with
`--batch 64` a step is short beside what the processes send each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import ROOT, composed, print_ratios, result

DATA = "data.count=2000"
ONE, TWO = "one process", "two processes, one training"
APART = "two trainings of one process, together"


def start(
    directory: Path, arguments: argparse.Namespace, *settings: str
) -> subprocess.Popen[bytes]:
    """A `run.py` that trains."""
    command = [sys.executable, str(ROOT / "run.py"), DATA, "logger=none", "trainer.threads=1"]
    command += [f"batch_size={arguments.batch}", f"data.size={arguments.size}"]
    command += [f"max_epochs={arguments.epochs}", "trainer.early_stopping_patience=null"]
    command += ["evaluation.test=false", f"trainer.validate_every={arguments.epochs}", *settings]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, f"hydra.run.dir={directory}"],
        env=os.environ | threads,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def images_per_second(directory: Path, process: subprocess.Popen[bytes]) -> float:
    """Of a training that ends."""
    assert process.wait() == 0, "the training failed"
    timings = json.loads((directory / "result.json").read_text(encoding="utf-8"))["timings"]
    return float(timings["images_per_second"])


def measured(directory: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Images a second of every way, one after another."""
    found = {}
    for way, devices in ((ONE, 1), (TWO, 2)):
        path = directory / way.replace(" ", "_").replace(",", "")
        process = start(path, arguments, f"trainer.devices={devices}")
        found[way] = images_per_second(path, process)
    together = [directory / f"apart{i}" for i in range(2)]
    processes = [start(path, arguments) for path in together]
    found[APART] = sum(map(images_per_second, together, processes))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    from experiments import building

    building.load(composed(DATA, f"data.size={arguments.size}"))  # fills the cache
    with tempfile.TemporaryDirectory() as directory:
        rounds = [
            measured(Path(directory, str(number)), arguments) for number in range(arguments.rounds)
        ]
    found = {way: [each[way] for each in rounds] for way in rounds[0]}
    print_ratios(f"batches of {arguments.batch}", found, ONE, "images/s")
    ratio = statistics.median(two / one for one, two in zip(found[ONE], found[TWO], strict=True))
    result(
        "images/s of two processes of one thread, beside one",
        ratio,
        ">= 1.8",
        beside=f"{statistics.median(found[TWO]):.0f} and {statistics.median(found[ONE]):.0f}",
    )


if __name__ == "__main__":
    main()
