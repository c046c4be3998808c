"""Train a trial again from its record: `python -m experiments.rerun outputs/vae/<trial>`.

Says whether the metrics of the final evaluation are the same, bit for bit, and exits with 1 if
they are not.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.config.decided import read_decided
from experiments.errors import UserError
from experiments.record import hardware_settings, read_result
from experiments.terminal import errors_for_people, print_lines


def rerun(record: Path, directory: Path) -> list[str]:
    """Run the trial of `record` again into `directory`.

    Threads, precision and memory format are those of the record, whatever the machine's
    defaults, and the threads change after the same steps. The record decides the trial's
    mathematics only (see `experiments.config.decided`): images are cached, and metrics are
    sent, where this installation does. Code that the record names runs only if it is trusted (see
    `losses.trust`).

    Returns:
        What differs, a line each; empty if the trials are the same.

    Raises:
        UserError: there is no such record, or the trial cannot be run.
    """
    from experiments.trial import run_trial

    before = read_result(record)
    config = read_decided(record)
    try:
        config["trainer"] |= hardware_settings(before)
        config["evaluation"]["test"] = "test" in before["metrics"]
        changes = before["hardware"].get("thread_changes", [])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"a record must be whole to be trained again, but {record} lacks {error}"
        ) from error
    first = str(record.absolute())
    run_trial(config, directory, in_sweep=True, thread_changes=changes, rerun_of=first)
    return differences(before, read_result(directory))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two results: metrics, and what may have changed them."""
    if before["metrics"] == after["metrics"]:
        return []
    lines = []
    for split, metrics in before["metrics"].items():
        for name, value in metrics.items():
            again = after["metrics"].get(split, {}).get(name)
            if again != value:
                lines.append(f"{split} {name}: {value!r} before, {again!r} now")
    causes = [
        n
        for n in ("python", "packages", "code", "hardware", "data")
        if before.get(n) != after.get(n)
    ]
    return lines + [f"{n}: {before.get(n)} before, {after.get(n)} now" for n in causes]


@errors_for_people()
def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m experiments.rerun", description=__doc__)
    parser.add_argument("record", type=Path, help="directory of a trial, with its result.json")
    parser.add_argument("--out", type=Path, help="directory of the new record")
    arguments = parser.parse_args()
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    directory = arguments.out or arguments.record.with_name(
        f"{arguments.record.name}-rerun-{stamp}"
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    different = rerun(arguments.record, directory)
    print_lines(different or ["the same metrics, bit for bit"], directory)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
