"""Seconds until something happens: `--help`, a refused config, the first training step.

python -m benchmarks.training.startup
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.common import ROOT, print_ratios, ratios, result
from experiments import errors

FIRST, HELP = "run.py to the first training step", "run.py --help"
REFUSED = "run.py lr=-1, which is refused"

_FIRST_STEP = """
import os, tempfile
from benchmarks.common import composed
config = composed("logger=none", "trainer.progress=false")
from experiments.trial import run_trial
import pytorch_lightning as pl
class Leave(pl.Callback):
    def on_train_batch_end(self, *args, **kwargs):
        os._exit(0)
run_trial(config, tempfile.mkdtemp(dir={scratch!r}), callbacks=[Leave()])
"""


def seconds(*command: str, expected: int = 0) -> float:
    """Wall time of a process of its own."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    elapsed = time.perf_counter() - started
    if done.returncode != expected:
        raise RuntimeError(f"{command} exited with {done.returncode}:\n{done.stderr}")
    return elapsed


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    imports = "import torch, pytorch_lightning"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["VAESWEEP_CACHE"] = f"{scratch}/cache"
        first_step = _FIRST_STEP.format(scratch=scratch)
        seconds("-c", first_step)  # draw the cats, compile the bytecode
        ways = {
            imports: lambda: seconds("-c", imports),
            FIRST: lambda: seconds("-c", first_step),
            HELP: lambda: seconds("run.py", "--help"),
            REFUSED: lambda: seconds("run.py", "lr=-1", expected=errors.REFUSED),
        }
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, measure in ways.items():
                measured[name].append(measure())
    print_ratios("start-up", measured, imports, "seconds")
    first = statistics.median(ratios(measured, imports)[FIRST])
    result("run.py to the first training step, against its imports alone", first, "<= 1.3")
    for name in (HELP, REFUSED):
        result(name, statistics.median(measured[name]), "< 1", unit="s")


if __name__ == "__main__":
    main()
