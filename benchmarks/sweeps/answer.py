"""One check of reality beside `benchmarks.search`: both sweepers with real trainings, three seeds.

    VAESWEEP_DATA=... python -m benchmarks.sweeps.answer

The same search over loss, learning rate and latent size: by Hydra's own sweeper with its TPE, one
trial after another and each to its end; and by ours as it is by default, two workers. Without
VAESWEEP_DATA, the drawn cats. A seed takes about six minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.common import ROOT, machine, photos

SPACE = [
    "loss=mse,l1,ssim,kornia_ssim",
    "lr=tag(log,interval(1e-4,1e-2))",
    "latent_dim=8,16,32,64",
]
NOISE = 0.1  # dB of PSNR, between two seeds


def command(directory: str, seed: int, trials: int, epochs: int, *more: str) -> list[str]:
    """The search, as people type it."""
    return [
        sys.executable,
        str(ROOT / "run.py"),
        "-m",
        *SPACE,
        *photos(),
        f"max_epochs={epochs}",
        "logger=none",
        "trainer.progress=false",
        "report=none",
        f"hydra.sweep.dir={directory}",
        f"hydra.sweeper.n_trials={trials}",
        f"seed={seed}",
        f"hydra.sweeper.sampler.seed={seed}",
        *more,
    ]


def run(arguments: list[str]) -> tuple[float, float]:
    """Run a command to its end: seconds, and when it began (seconds since the epoch)."""
    began = time.time()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.time() - began, began


def best_of_stock(directory: str) -> float:
    """The best PSNR that Hydra's own sweeper wrote down."""
    text = Path(directory, "optimization_results.yaml").read_text()
    found = re.search(r"best_value: (\S+)", text)
    assert found is not None, text
    return float(found.group(1))


def reached(directory: str, least: float, began: float) -> tuple[float | None, float, int]:
    """When our study first had a trial that good, its best, and how many trials were pruned."""
    import optuna

    study = optuna.load_study(study_name="vae", storage=f"sqlite:///{directory}/study.db")
    ended = [t for t in study.trials if t.value is not None and t.state.name == "COMPLETE"]
    times = [
        datetime.timestamp(t.datetime_complete) - began
        for t in ended
        if t.value >= least and t.datetime_complete is not None
    ]
    pruned = sum(t.state.name == "PRUNED" for t in study.trials)
    return min(times, default=None), study.best_value, pruned


def compared(seed: int, trials: int, epochs: int) -> None:
    """Both searches with one seed, of what is drawn and of the trainings."""
    with tempfile.TemporaryDirectory() as stock, tempfile.TemporaryDirectory() as ours:
        plan = seed, trials, epochs
        seconds, began = run(command(ours, *plan, "hydra.sweeper.n_jobs=2"))
        stock_seconds, _ = run(
            command(
                stock,
                *plan,
                "hydra/sweeper=optuna",
                "hydra.sweeper.direction=maximize",
                "hydra.sweeper.n_jobs=1",
                "hydra.sweep.subdir='${hydra.job.num}'",
            )
        )
        best = best_of_stock(stock)
        first, our_best, pruned = reached(ours, best - NOISE, began)
    when = "never" if first is None else f"{first:.0f} s, {first / stock_seconds:.2f} of its wall"
    print(
        f"seed {seed}: Hydra's own {stock_seconds:.0f} s, {best:.2f} dB; ours {seconds:.0f} s "
        f"({seconds / stock_seconds:.2f}), {our_best:.2f} dB, {pruned} pruned; within {NOISE} dB "
        f"of its best after {when}",
        flush=True,
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.trials} trials of {arguments.epochs} epochs\n{machine()}", flush=True)
    with tempfile.TemporaryDirectory() as warm:  # fills the image cache
        run(command(warm, 0, 1, 1, "hydra.sweeper.n_jobs=1"))
    for seed in range(arguments.seeds):
        compared(seed, arguments.trials, arguments.epochs)


if __name__ == "__main__":
    main()
