"""The commands that train a trial again, continue a sweep and write a report again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.commands import go_on, left_out
from analysis.report.trials import ranked
from analysis.runs import Runs
from experiments.commands import module


@dataclass(frozen=True)
class Command:
    """What a command is for, and the command."""

    purpose: str
    text: str


def commands(
    runs: Runs, sources: Sequence[str], margins: Mapping[str, float] | None = None
) -> list[Command]:
    """What a reader may want to run next, in the directory from which the report was made.

    Args:
        runs: of the report.
        sources: as they were given.
        margins: the same.
    """
    found = []
    best = best_record(runs)
    if best is not None:
        text = module("experiments.rerun", _path(best))
        found.append(Command("train the best trial again and compare, bit for bit", text))
    for directory in sweep_directories(runs):
        command = go_on(directory)
        if command is not None:
            missing = [key for key in left_out(directory) if f"{key}=" not in command]
            purpose = f"continue the sweep {_name(directory)}"
            if missing:
                purpose += f" (left out, add it if it is yours: {', '.join(missing)})"
            found.append(Command(purpose, command))
    again = [_path(Path(s)) if Path(s).exists() else s for s in sources]
    if again:
        for name, value in (margins or {}).items():
            again += ["--margin", f"{name}={value:g}"]
        found.append(Command("write this report again", module("analysis.report", *again)))
    return found


def best_record(runs: Runs) -> Path | None:
    """The directory of the best completed trial of which there is one here."""
    for _, row in ranked(runs).iterrows():
        directory = row.get("directory")
        if row["status"] == "completed" and isinstance(directory, str) and Path(directory).is_dir():
            return Path(directory)
    return None


def sweep_directories(runs: Runs) -> list[Path]:
    """Those whose records are here, in the order of their trials."""
    if "directory" not in runs.trials:
        return []
    directories = runs.trials["directory"].dropna()
    parents = dict.fromkeys(Path(directory).parent for directory in directories)
    return [parent for parent in parents if (parent / "multirun.yaml").is_file()]


def _name(directory: Path) -> str:
    """«cats» of outputs/cats/sweep."""
    return directory.parent.name if directory.name == "sweep" else directory.name


def _path(path: Path) -> str:
    """Relative to the working directory if it lies there."""
    absolute = path.absolute()
    if absolute.is_relative_to(Path.cwd()):
        absolute = Path(os.path.relpath(absolute))
    text = str(absolute)
    return f"./{text}" if text.startswith("-") else text
