"""A training alone and beside other work: with the threads that it chooses, and with fixed ones.

    VAESWEEP_DATA=<folder with cats_raw/> python -m benchmarks.training.threads

Runs `run.py` itself, in rounds in which every way takes its turn, on a machine that is otherwise
idle; two cores show most (`taskset -c 0,1`). The seconds are those of the training without
loading and scoring, the ratios are to the training that is alone and has all cores. All threads
beside several busy processes take up to 17 times as long, and are only tried with `--slow`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import ROOT, composed, photos, print_ratios, result

ALONE = "alone, all cores"
CHOSEN: list[str] = []
ONE = ["trainer.threads=1"]


@contextmanager
def training(directory: Path, epochs: int, settings: list[str]) -> Iterator[None]:
    """A `run.py` that has ended when the context does."""
    command = [sys.executable, str(ROOT / "run.py"), *photos(), f"max_epochs={epochs}"]
    command += ["logger=none", "evaluation.test=false", "trainer.early_stopping_patience=null"]
    free = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with subprocess.Popen(
        [*command, *settings, f"hydra.run.dir={directory}"],
        env=free,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        yield
        assert process.wait() == 0, "the training failed"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Single-threaded processes that never rest."""
    started = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measured(epochs: int, settings: list[str], *, others: int = 0, twin: bool = False) -> float:
    """Seconds of the training, or of the slower of two."""
    with tempfile.TemporaryDirectory() as folder, busy(others):
        paths = [Path(folder, name) for name in ("one", "two")[: 1 + twin]]
        with training(paths[0], epochs, settings):
            if twin:
                with training(paths[1], epochs, settings):
                    pass
        found = [json.loads((path / "result.json").read_text()) for path in paths]
    for one in found:
        hardware = one["hardware"]
        print(f"  threads {hardware['threads']}, changes {hardware['thread_changes']}", flush=True)
    return max(float(one["timings"]["fit_seconds"]) for one in found)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--several", type=int, default=4, help="busy processes")
    parser.add_argument("--slow", action="store_true", help="all threads beside several, too")
    arguments = parser.parse_args()
    from experiments import building
    from experiments.machine.cores import cores

    building.load(composed(*photos()))  # fills the cache
    every = [f"trainer.threads={cores()}"]
    several = {"others": arguments.several}
    ways = {
        ALONE: (every, {}),
        "alone, chosen": (CHOSEN, {}),
        "beside one, chosen": (CHOSEN, {"others": 1}),
        "beside one, all cores": (every, {"others": 1}),
        "beside one, one thread": (ONE, {"others": 1}),
        "beside several, chosen": (CHOSEN, several),
        "beside several, one thread": (ONE, several),
        "beside another training, chosen": (CHOSEN, {"twin": True}),
        "beside another training, one thread": (ONE, {"twin": True}),
    }
    if arguments.slow:
        ways["beside several, all cores"] = (every, several)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, (settings, beside) in ways.items():
            found[name].append(measured(arguments.epochs, settings, **beside))
            print(f"{name}: {found[name][-1]:.1f} s", flush=True)
    print_ratios(f"{arguments.epochs} epochs of 700 photos", found, ALONE, "seconds")
    alone = statistics.median(found[ALONE])
    for name, aim in (("alone, chosen", "<= 1.05"), ("beside one, chosen", "<= 1.8")):
        value = statistics.median(found[name])
        result(
            f"a training {name.replace(', ', ', threads ')}, against alone with all cores",
            value / alone,
            aim,
            beside=f"{value:.1f} and {alone:.1f} s",
        )


if __name__ == "__main__":
    main()
