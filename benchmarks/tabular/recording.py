"""Makes the table of `benchmarks.tabular.table`: three grids of real trainings.

    VAESWEEP_DATA=<folder with cats_raw/ and the CIFAR cats> python -m benchmarks.tabular.recording

The grids are sweeps of `run.py` like any other, of 512 trainings each: about eight hours of one
core in all. One that was interrupted goes on where it was. Then the table is written anew.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.tabular.table import COLUMNS, FILE, METRICS

GRID = {
    "loss": "mse,l1,ssim,ms_ssim",
    "lr": "1e-4,1.93e-4,3.73e-4,7.2e-4,1.39e-3,2.68e-3,5.18e-3,1e-2",
    "latent_dim": "8,20,50,128",
    "beta": "0.5,2",
    "seed": "0,1",
}
TRAINING = [
    "max_epochs=27",
    "trainer.validate_every=1",
    "trainer.early_stopping_patience=null",
    "trainer.threads=1",
    "trainer.progress=false",
    "evaluation.samples=64",
    "model.width=8",
    "logger=none",
    "report=none",
]
TASKS = {
    "drawn": ["data.size=32", "data.count=1000", "batch_size=32"],
    "photos": ["data=images", "data.root={data}/cats_raw", "data.size=64", "batch_size=32"],
    "cifar": [
        "data=images",
        "data.root={data}/cifar_cats_5000.zip",
        "data.size=32",
        "batch_size=128",
    ],
}


def command(task: str, data: str) -> list[str]:
    """The sweep that trains a task's grid."""
    own = [override.format(data=data) for override in TASKS[task]]
    grid = [f"{key}={values}" for key, values in GRID.items()]
    name = f"name=tabular-{task}"
    return [sys.executable, str(ROOT / "run.py"), "-m", name, *own, *grid, *TRAINING]


def rows_of(task: str, sweep: Path) -> Iterator[dict[str, Any]]:
    """The rows of a sweep, one for each validation, of the seeds whose grid is complete.

    Raises:
        ValueError: no seed's is.
    """
    from experiments.record import read_history, read_result

    grid = {key: [_number(value) for value in text.split(",")] for key, text in GRID.items()}
    found = {}
    for path in sorted(sweep.glob("*/result.json")):
        result = read_result(path.parent)
        parameters, timings = result["parameters"], result["timings"]
        chosen = {key: parameters.get(key, parameters.get(f"{key}.name")) for key in grid}
        is_asked = all(chosen[key] in values for key, values in grid.items())
        if not is_asked or result["status"] not in ("completed", "failed"):
            continue
        fit = timings.get("fit_seconds")
        seconds = {} if fit is None else {
            "start_seconds": f"{timings['total_seconds'] - fit:.3g}",
            "seconds": f"{fit / result['epochs']:.3g}",
        }  # fmt: skip
        found[tuple(chosen.values())] = [
            {"task": task, **chosen, **seconds, "epoch": row["epoch"] + 1}
            | {metric: _shown(row[f"val/{metric}"]) for metric in METRICS}
            for row in read_history(path.parent)
        ]
    asked = math.prod(len(values) for key, values in grid.items() if key != "seed")
    held = Counter(seed for *_, seed in found)
    if max(held.values(), default=0) < asked:
        raise ValueError(f"{sweep} must hold {asked} trainings of a seed, but holds {dict(held)}")
    for key in sorted(found):
        if held[key[-1]] == asked:
            yield from found[key]


def write(rows: Iterable[Mapping[str, Any]], file: Path = FILE) -> None:
    """Write the table."""
    with lzma.open(file, "wt", newline="", preset=9) as text:
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="of the sweeps")
    parser.add_argument("--no-training", action="store_true", help="write what is there")
    parser.add_argument("--table", type=Path, default=FILE, help="to write")
    asked = parser.parse_args()
    data = str(Path(os.environ["VAESWEEP_DATA"]).absolute())
    for task in () if asked.no_training else TASKS:
        sweep = f"hydra.sweep.dir={asked.outputs}/tabular-{task}/sweep"
        subprocess.run([*command(task, data), sweep], check=True)
    sweeps = {task: asked.outputs / f"tabular-{task}" / "sweep" for task in TASKS}
    write((row for task, sweep in sweeps.items() for row in rows_of(task, sweep)), asked.table)
    print(f"{asked.table.name}: {asked.table.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
