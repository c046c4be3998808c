"""Trials an hour with the default number of workers and threads, beside every fixed setting.

    VAESWEEP_DATA=<folder with cats_raw/> python -m benchmarks.sweeps.workers

The same grid of trials, of which each really trains, in one run of `run.py -m` after another: with
what vaesweep chooses where `hydra.sweeper.n_jobs` and `trainer.threads` are left open, and with
one worker or as many as there are cores, each with one thread or as many as leave none waiting:
two workers with two threads each on two cores take ten times as long, and are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

from benchmarks.common import composed, photos, print_ratios, result

DEFAULT = "chosen by vaesweep"


def seconds(directory: str, epochs: int, size: int, *settings: str) -> float:
    """From the first trial's begin to the last one's end."""
    import sweeps

    trials = sweeps.run(
        [
            *photos(),
            f"data.size={size}",
            f"max_epochs={epochs}",
            "logger=none",
            "report=none",
            "loss=mse,l1",
            "latent_dim=16,32",
            "seed=0,1",
            "trainer.progress=false",
            f"hydra.sweep.dir={directory}",
            *settings,
        ]
    ).study.trials
    begins = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    assert len(begins) == len(ends) == 8, "trials failed"
    return float((max(ends) - min(begins)).total_seconds())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    from experiments import building
    from experiments.machine.cores import cores

    building.load(composed(*photos(), f"data.size={arguments.size}"))  # fills the cache
    settings: dict[str, list[str]] = {DEFAULT: []}
    for workers in sorted({1, cores()}):
        for threads in sorted({1, cores() // workers}):
            name = f"{workers} workers, {threads} threads each"
            settings[name] = [f"hydra.sweeper.n_jobs={workers}", f"trainer.threads={threads}"]
    measured: dict[str, list[float]] = {name: [] for name in settings}
    os.environ["WANDB_MODE"] = "disabled"
    for _ in range(arguments.rounds):
        for name, given in settings.items():
            with tempfile.TemporaryDirectory() as directory:
                found = seconds(directory, arguments.epochs, arguments.size, *given)
            measured[name].append(found)
    print_ratios(f"8 trials of {arguments.epochs} epochs", measured, DEFAULT, "seconds")
    best = min((n for n in measured if n != DEFAULT), key=lambda n: statistics.median(measured[n]))
    slower = statistics.median(
        ours / theirs for ours, theirs in zip(measured[DEFAULT], measured[best], strict=True)
    )
    result(
        f"sweep of 8 trials against the best fixed setting ({best})",
        100 * (slower - 1),
        "<= 10",
        unit="% slower",
    )


if __name__ == "__main__":
    main()
