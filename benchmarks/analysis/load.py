"""Seconds until 10,000 trials are tables: from records on disk, from SQLite, from both.

    python -m benchmarks.analysis.load [--trials 10000] [--validations 20]

The trials were never trained; their records and their study are as large as real ones. The time
that reading the bytes and the JSON alone takes is there to compare, and beside the wall clock's
seconds are the processor's, which hold on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.load import load
from benchmarks.common import composed, machine
from benchmarks.studies import fill, space
from experiments.record import flat
from sweeps.storage.opening import open_storage
from sweeps.study.definition import open_study
from tests.records import result, write_sweep


def write_records(directory: Path, trials: int, validations: int) -> None:
    """A sweep's directory with whole configs."""
    config = flat(composed("name=bench"))
    contents = [result(19.0) for _ in range(trials)]
    for number, content in enumerate(contents):
        content["name"] = "bench"
        content["parameters"] = config | {"seed": number % 5, "lr": 1e-4 * (1 + number // 5)}
        content["seed"] = number % 5
    write_sweep(directory, contents, validations)


def write_study(path: Path, trials: int) -> None:
    """A study of as many finished trials."""
    storage = open_storage(None, path)
    options: dict[str, Any] = {"objectives": ["psnr"], "space": space(), "base": {}, "grid": False}
    study, _ = open_study(storage, "other", **options)
    fill(study, trials)


def seconds(what: Callable[[], object]) -> tuple[float, float]:
    """By the wall clock and by the processor, the best of three each."""
    walls, processors = [], []
    for _ in range(3):
        wall, processor = time.perf_counter(), time.process_time()
        what()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


def bytes_and_json(directory: Path) -> None:
    """The least that reading the records takes."""
    for trial in directory.iterdir():
        if trial.is_dir():
            json.loads((trial / "result.json").read_bytes())
            for line in (trial / "history.jsonl").read_bytes().splitlines():
                json.loads(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--validations", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweep, database = Path(folder, "sweep"), Path(folder, "study.db")
        write_records(sweep, arguments.trials, arguments.validations)
        write_study(database, arguments.trials)
        print(f"{arguments.trials} trials, {arguments.validations} validations each\n{machine()}")
        for name, what in {
            "records": lambda: load(sweep),
            "bytes and JSON alone": lambda: bytes_and_json(sweep),
            "SQLite": lambda: load(database),
            "records and SQLite": lambda: load(sweep, database),
        }.items():
            wall, processor = seconds(what)
            print(f"{name:<22} {wall:6.2f} s  (processor: {processor:.2f} s)")


if __name__ == "__main__":
    main()
