"""How busy two workers are when the lengths of trials differ by a factor of four.

    python -m benchmarks.sweeps.idle

The same sleeping trials, trial i as long in each: by our workers; by Hydra's own Optuna sweeper
with the joblib launcher, which waits for the longer of two trials before it begins the next two;
and the most that anybody could reach in this order. From the first trial's start (of ours the
moment when it was claimed, so that the workers' start counts) to the last one's end, by the
trials' own clocks.
"""

from __future__ import annotations

import argparse
import functools
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, print_ratios

WORKERS = 2
SPACE = ["lr=tag(log,interval(1e-4,1e-2))", "latent_dim=8,16,32"]


@dataclass(frozen=True)
class Sleeping:
    """A sweep's task whose trials only sleep; `lengths` has the seconds of each by its number."""

    log: str
    lengths: Sequence[float]

    def prepare(
        self, overrides: Sequence[str], number: int, settings: Mapping[str, Any]
    ) -> SleepingJob:
        """The trial of that number."""
        return SleepingJob(self, number)


class SleepingJob:
    """One trial; it writes down when it began and ended."""

    epochs, seed, directory = 1, 0, ""

    def __init__(self, task: Sleeping, number: int) -> None:
        self._task, self._number = task, number
        self.identity = str(number)

    def run(self, report: Callable[..., bool], should_stop: Callable[[], bool]) -> tuple[float]:
        """Sleep."""
        return (sleep(self._task.log, self._task.lengths[self._number]),)

    def pictures(self) -> list[str]:
        """None."""
        return []

    def summary(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def sleep(log: str, seconds: float) -> float:
    """What both sweepers run; returns an objective."""
    began = time.time()
    time.sleep(seconds)
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{began} {time.time()}\n")
    return seconds


def sleep_by_number(config: Any, *, log: str, lengths: Sequence[float]) -> float:
    """A Hydra task function."""
    from hydra.core.hydra_config import HydraConfig

    return sleep(log, lengths[int(HydraConfig.get().job.num)])


def ours(lengths: Sequence[float], directory: str) -> float:
    """Percent busy by this project's sweeper."""
    import sweeps

    log = f"{directory}/log"
    sweep = sweeps.run(
        [
            *SPACE,
            f"hydra.sweep.dir={directory}/sweep",
            f"hydra.sweeper.n_trials={len(lengths)}",
            f"hydra.sweeper.n_jobs={WORKERS}",
        ],
        task=Sleeping(log, lengths),
    )
    claimed = [trial.datetime_start.timestamp() for trial in sweep.study.trials]
    return busy(log, len(lengths), since=min(claimed))


def stock(lengths: Sequence[float], directory: str) -> float:
    """Percent busy by hydra-optuna-sweeper, in batches of as many trials as there are workers."""
    from hydra._internal.execution_policy import execution_whitelist
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    from sweeps import whitelist
    from sweeps.workers.launch import register_config

    register_config()
    log = f"{directory}/log"
    overrides = [
        *SPACE,
        "hydra/sweeper=optuna",
        "hydra/launcher=joblib",
        f"hydra.launcher.n_jobs={WORKERS}",
        f"hydra.sweep.dir={directory}/sweep",
        f"hydra.sweeper.n_trials={len(lengths)}",
        f"hydra.sweeper.n_jobs={WORKERS}",
    ]
    hydra = Hydra.create_main_hydra2("stock", create_config_search_path(str(ROOT / "conf")))
    try:
        with execution_whitelist(whitelist()):
            task = functools.partial(sleep_by_number, log=log, lengths=lengths)
            hydra.multirun("config", task, overrides)
    finally:
        GlobalHydra.instance().clear()
    return busy(log, len(lengths))


def busy(log: str, trials: int, since: float | None = None) -> float:
    """Percent of the workers' time that trials took."""
    lines = Path(log).read_text(encoding="utf-8").splitlines()
    times = [tuple(map(float, line.split())) for line in lines]
    if len(times) != trials:
        raise RuntimeError(f"{trials} trials must have run, but {len(times)} did")
    first = min(began for began, _ in times) if since is None else since
    wall = max(ended for _, ended in times) - first
    return 100 * sum(ended - began for began, ended in times) / (WORKERS * wall)


def possible(lengths: Sequence[float]) -> float:
    """Percent busy if each trial begins, in this order, as soon as a worker is free."""
    free = [0.0] * WORKERS
    for length in lengths:
        free[free.index(min(free))] += length
    return 100 * sum(lengths) / (WORKERS * max(free))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a short trial")
    arguments = parser.parse_args()
    ways: dict[str, Callable[[Sequence[float], str], float]] = {
        "best possible in this order": lambda lengths, _: possible(lengths),
        "vaesweep": ours,
        "hydra-optuna-sweeper, joblib": stock,
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.rounds):
        half = arguments.trials // 2
        lengths = [arguments.seconds] * (arguments.trials - half) + [4 * arguments.seconds] * half
        random.Random(turn).shuffle(lengths)
        for name, measure in ways.items():
            with tempfile.TemporaryDirectory() as directory:
                measured[name].append(measure(lengths, directory))
    print_ratios(
        f"busy workers, {arguments.trials} trials of {arguments.seconds:g} s and "
        f"{4 * arguments.seconds:g} s, {WORKERS} workers",
        measured,
        "best possible in this order",
        "% busy",
    )


if __name__ == "__main__":
    main()
