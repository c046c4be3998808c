"""Bring to W&B what its server lacks: `python -m experiments.sync [PATHS]`.

Looks at every trial below the paths (outputs/ by default) and asks the server what it has. Runs
of which it has nothing are uploaded from W&B's files. What is missing of the others, and of trials
without such files, is logged from the record: each validation and the end, but no rows of training
between two validations. Says what is left, and exits with 1 if anything is.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import objectives
from experiments.errors import UserError, printable
from experiments.record import RESULT, read_config, read_history, read_result, write_json
from experiments.terminal import errors_for_people, shown_path
from experiments.tracking.loggers import run_settings, run_summary
from experiments.tracking.wandb.run import choose_mode, logged_step

if TYPE_CHECKING:
    from experiments.tracking.wandb.server import Delivered, Server

_QUIET_SECONDS = 120.0
"""After so long without a word, a trial whose record says "running" is taken for dead."""
_PICTURES = {"reconstructions": "reconstructions.png", "samples": "samples.png"}


@dataclass(frozen=True)
class Left:
    """Something that the server still lacks, and why."""

    directory: Path
    reason: str


@dataclass
class _Trial:
    directory: Path
    config: dict[str, Any]
    result: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def end(self) -> tuple[str, str | None]:
        """How it ended, and why."""
        if self.result["status"] == "running":
            return "interrupted", "its process died"
        return self.result["status"], self.result["reason"]

    @property
    def entity(self) -> str | None:
        """The W&B user or team that its config names."""
        named = self.config["logger"].get("entity")
        return str(named) if named else None

    @property
    def path(self) -> str:
        """Of its run, as far as the record knows."""
        return str(self.result.get("wandb", {}).get("path") or "")

    def runs(self) -> list[Path]:
        """Directories of W&B's files, in the order of the trial's sessions."""
        return sorted(self.directory.glob("wandb/*run-*/"), key=lambda path: path.name[-24:])

    def is_complete(self, delivered: Delivered | None, server: Server) -> bool:
        if delivered is None or delivered.status != self.end[0]:
            return False
        if delivered.rows < len(self.history):
            return False
        return len(self.runs()) < 2 or not self.missing(delivered, server)

    def has_rows(self, delivered: Delivered | None) -> bool:
        return delivered is not None and delivered.rows > 0

    def missing(self, delivered: Delivered | None, server: Server) -> list[dict[str, Any]]:
        """The rows of the history that the server lacks."""
        metric = f"val/{objectives(self.config)[0]}"
        steps = server.steps(delivered.path, metric) if delivered else set()
        return [row for row in self.history if logged_step(row["step"]) not in steps]


def sync(
    paths: Sequence[Path], *, everything: bool, seconds: float, entity: str | None = None
) -> tuple[int, list[Left]]:
    """Bring the trials below `paths` to the server.

    Args:
        paths: of trials, sweeps, or anything that holds them.
        everything: also trials that were not meant for W&B.
        seconds: that `wandb sync` may take.
        entity: W&B user or team to which runs go; None is the key's own. A record that names
            another one is left: it may come from somebody else.

    Returns:
        How many trials and runs there are, and what is left.

    Raises:
        UserError: a path does not exist.
    """
    entity = entity or os.environ.get("WANDB_ENTITY")
    trials, left = _find(paths, everything)
    left += [
        Left(t.directory, _another_entity(t)) for t in trials if t.entity not in (None, entity)
    ]
    trials = [trial for trial in trials if trial.entity in (None, entity)]
    strays = _strays(paths, trials)
    count = len(trials) + len(strays) + len(left)
    if not trials and not strays:
        return count, left
    mode = choose_mode()
    if mode.mode != "online":
        reason = f"nothing can be brought to W&B: {mode.reason}"
        directories = [t.directory for t in trials] + strays
        return count, left + [Left(directory, reason) for directory in directories]
    from experiments.tracking.wandb.server import Server, is_marked, upload

    server = Server()
    trials = [t for t in trials if not t.is_complete(server.delivered(t.path), server)]
    said = ""
    # `wandb sync` would send again what the server has of a run. And one session after the other,
    # since they follow each other on the server, too.
    absent = [t for t in trials if not t.has_rows(server.delivered(t.path))]
    for runs in zip_longest(*(t.runs() for t in absent), strays):
        found = [run for run in runs if run is not None]
        said += upload(found, seconds, entity or server.entity)
    server.forget()
    for trial in trials:
        if not trial.is_complete(server.delivered(trial.path), server):
            _relog(trial, server)
    server.forget()
    for trial in trials:
        delivered = server.delivered(trial.path)
        if trial.is_complete(delivered, server):
            assert delivered is not None
            run = trial.result["wandb"] | {"path": delivered.path, "url": delivered.url}
            write_json(trial.directory / RESULT, trial.result | {"wandb": run})
        else:
            left.append(Left(trial.directory, "the server did not take it all; try again"))
    left += [Left(run, _last_line(said)) for run in strays if not is_marked(run)]
    return count, left


def _find(paths: Sequence[Path], everything: bool) -> tuple[list[_Trial], list[Left]]:
    trials, left = [], []
    for path in paths:
        if not path.exists():
            raise UserError(f"a path must be a trial or hold some, but {path} does not exist")
        for found in sorted(path.rglob(RESULT)):
            directory = found.parent
            try:
                result = read_result(directory)
                trial = _Trial(directory, read_config(directory), result, read_history(directory))
            except UserError as error:
                left.append(Left(directory, str(error)))
                continue
            logged = trial.config["logger"]["name"] == "wandb"
            logged = logged and result.get("wandb", {}).get("mode") != "disabled"
            if not logged and not everything:
                continue
            if result["status"] == "running" and _age(trial) < _QUIET_SECONDS:
                left.append(Left(directory, "it seems to be running; it wrote a moment ago"))
            else:
                trials.append(trial)
    return trials, left


def _another_entity(trial: _Trial) -> str:
    return (
        f"its record names the W&B entity {trial.entity!r}; if its runs should go there: "
        f"python -m experiments.sync --entity {shlex.quote(trial.entity or '')} "
        f"{shlex.quote(str(shown_path(trial.directory)))}"
    )


def _strays(paths: Sequence[Path], trials: Sequence[_Trial]) -> list[Path]:
    """Directories of W&B runs, not yet uploaded, that belong to no record."""
    from experiments.tracking.wandb.server import is_marked

    found = {file.parent for path in paths for file in path.rglob("*run-*/run-*.wandb")}
    owned = {run for trial in trials for run in trial.runs()}
    records = {run for run in found if (run.parents[1] / RESULT).exists()}
    return sorted(run for run in found - owned - records if not is_marked(run))


def _relog(trial: _Trial, server: Server) -> None:
    from experiments.tracking.wandb.server import relog

    delivered = server.delivered(trial.path)
    present = {key: trial.directory / name for key, name in _PICTURES.items()}
    about = relog(
        trial.result.get("wandb", {}).get("id") or None,
        run_settings(trial.config, trial.result),
        trial.missing(delivered, server),
        {key: path for key, path in present.items() if path.exists()},
        {
            "status": trial.end[0],
            "reason": trial.end[1],
            "summary": run_summary(trial.config, trial.result),
        },
    )
    trial.result["wandb"] = trial.result.get("wandb", {}) | {
        "id": about["id"],
        "path": about["path"],
    }


def _age(trial: _Trial) -> float:
    """Seconds since the trial wrote anything."""
    files = [trial.directory / RESULT, trial.directory / "history.jsonl"]
    files += [file for run in trial.runs() for file in run.glob("*.wandb")]
    return time.time() - max(file.stat().st_mtime for file in files if file.exists())


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "wandb sync said nothing"


def _report(count: int, left: Sequence[Left]) -> Iterator[str]:
    for item in left:
        yield f"{shown_path(item.directory)}: {item.reason}"
    done = count - len(left)
    yield f"{done} of {count} on the server" + (f", {len(left)} left" if left else "")


@errors_for_people()
def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description=__doc__)
    parser.add_argument("paths", type=Path, nargs="*", help="trials, sweeps or folders of them")
    parser.add_argument("--all", action="store_true", help="also trials not meant for W&B")
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds that wandb sync may take"
    )
    parser.add_argument("--entity", help="W&B user or team, if it is not the key's own")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    paths = arguments.paths or [Path("outputs")]
    count, left = sync(
        paths, everything=arguments.all, seconds=arguments.timeout, entity=arguments.entity
    )
    for line in _report(count, left):
        print(printable(line))
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
