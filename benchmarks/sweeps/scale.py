"""How many trials a second a study takes, and whether it loses or repeats one.

    python -m benchmarks.sweeps.scale                # 5,000 trials by 8 workers, on PostgreSQL
    python -m benchmarks.sweeps.scale --storage sqlite --trials 500

Trials that train nothing, by 1, 2, 4 and 8 workers: claimed, reported, told and stored as real ones
are. Every trial must have run exactly once, and none may be left running.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from benchmarks.postgresql import server

SPACE = ["lr=tag(log,interval(1e-4,1e-2))", "loss=mse,l1,ssim", "latent_dim=8,16,32"]


@contextmanager
def storage_of(kind: str, directory: str) -> Iterator[str]:
    """The URL of a new storage."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/study.db"
    elif kind == "journal":
        yield f"journal://{directory}/study.log"
    else:
        with server() as url:
            if url is None:
                raise SystemExit("needs PostgreSQL: install it, or set VAESWEEP_POSTGRESQL")
            yield url


def sweep(workers: int, trials: int, storage: str, directory: str) -> tuple[float, float]:
    """Run a sweep; its trials a second, and seconds from the first trial to the last one's end."""
    import sweeps
    from tests.simulated import SimulatedTask

    log = Path(directory, f"log-{workers}")
    overrides = [
        f"name=scale{workers}-{time.time_ns()}",
        *SPACE,
        "hydra/sweeper/sampler=random",
        "hydra/sweeper/pruner=none",
        f"hydra.sweeper.n_trials={trials}",
        f"hydra.sweeper.n_jobs={workers}",
        f"hydra.sweeper.storage='{storage}'",
        f"hydra.sweep.dir={directory}/{workers}",
    ]
    with redirect_stdout(io.StringIO()):
        done = sweeps.run(overrides, task=SimulatedTask(log=str(log), epochs=2, checkpoints=False))
    check(done.study.trials, log, trials)
    first = min(trial.datetime_start for trial in done.study.trials)
    last = max(trial.datetime_complete for trial in done.study.trials)
    seconds = (last - first).total_seconds()
    return trials / seconds, seconds


def check(trials: list[Any], log: Path, expected: int) -> None:
    """Every trial ran once, and ended.

    Raises:
        SystemExit: one did not.
    """
    states = Counter(trial.state.name for trial in trials)
    begun = Counter(line.split()[0] for line in log.read_text().splitlines() if " begin " in line)
    if states != {"COMPLETE": expected} or set(begun.values()) != {1} or len(begun) != expected:
        repeated = sum(count > 1 for count in begun.values())
        raise SystemExit(f"states {dict(states)}, {len(begun)} begun, {repeated} repeated")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000, help="by the most workers")
    parser.add_argument(
        "--storage", choices=["postgresql", "sqlite", "journal"], default="postgresql"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    print(f"simulated trials on {arguments.storage}\n{machine()}")
    print(f"{'workers':>7}  {'trials':>6}  {'trials/s':>8}  {'to the first':>12}")
    base = None
    with (
        tempfile.TemporaryDirectory() as directory,
        storage_of(arguments.storage, directory) as storage,
    ):
        for workers in arguments.workers:
            is_last = workers == max(arguments.workers)
            trials = arguments.trials if is_last else max(50, arguments.trials // 10)
            rate, _ = sweep(workers, trials, storage, directory)
            base = base or rate
            print(f"{workers:>7}  {trials:>6}  {rate:>8.1f}  {rate / base:>12.2f}", flush=True)
    print("every trial ran once, and none is left running")


if __name__ == "__main__":
    main()
