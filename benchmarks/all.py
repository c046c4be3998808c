"""All that a user waits for, measured in one run and printed as one table.

    VAESWEEP_DATA=<folder with cats_raw/> python -m benchmarks.all

Each benchmark runs in a process of its own, one after another; `--only steps.losses` leaves the
others out. Ratios compare what was measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, machine

BENCHMARKS: dict[str, list[str]] = {
    "training.startup": [],
    "steps.losses": ["--rounds", "3"],
    "steps.metrics": [],
    "training.trial": [],
    "training.threads": [],
    "sweeps.overhead": [],
    "sweeps.workers": ["--rounds", "2"],
    "serving.speed": [],
}
_COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


def measured(names: list[str]) -> list[dict[str, Any]]:
    """What the benchmarks gave `common.result`, in order; their own tables go to the terminal."""
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory, "results.jsonl")
        results.touch()
        for name in names:
            command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name]]
            environment = {**os.environ, RESULTS: str(results)}
            subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
        return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def reached(row: dict[str, Any]) -> bool:
    """Whether the value is what its aim wants."""
    comparison, _, bound = row["aim"].partition(" ")
    return bool(_COMPARISONS[comparison](row["value"], float(bound)))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| | measured | aim | | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [
            row["what"],
            f"{row['value']:.3g} {row['unit']}",
            row["aim"],
            "" if reached(row) else "missed",
            row["beside"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    only = parser.parse_args().only
    started = time.monotonic()
    rows = measured(only)
    print(f"\n{machine()}; {(time.monotonic() - started) / 60:.0f} minutes\n\n{table(rows)}")


if __name__ == "__main__":
    main()
