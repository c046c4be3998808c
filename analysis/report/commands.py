"""The commands that train a trial again, continue a sweep and write a report again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.commands import go_on, left_out
from analysis.report.content import Command
from analysis.report.trials import ranked
from analysis.runs import Runs
from experiments.cli.commands import module


def commands(
    runs: Runs,
    sources: Sequence[str],
    recommended: Sequence[str],
    margins: Mapping[str, float] | None = None,
) -> list[Command]:
    """What a reader may want to run next, in the directory from which the report was made.

    Args:
        runs: of the report.
        sources: as they were given.
        recommended: trials of what the answer says to use.
        margins: the same.
    """
    found = []
    table = ranked(runs)
    completed = table.loc[table["status"] == "completed"].dropna(subset=["directory"])
    used = completed[completed["trial"].isin(recommended)]
    order = [*used["directory"], *([] if recommended else completed["directory"])]
    best = next((Path(path) for path in order if Path(path).is_dir()), None)
    if best is not None:
        text = module("experiments.rerun", _path(best))
        found.append(Command("train the best trial again and compare, bit for bit", text))
    parents = dict.fromkeys(Path(path).parent for path in runs.trials["directory"].dropna())
    failed = runs.trials.loc[runs.trials["status"] == "failed", "directory"].dropna()
    with_failed = {Path(path).parent for path in failed}
    for directory in parents:
        is_swept = (directory / "multirun.yaml").is_file()
        command = go_on(directory, retry_failed=directory in with_failed) if is_swept else None
        if command is not None:
            missing = [key for key in left_out(directory) if f"{key}=" not in command]
            name = directory.parent.name if directory.name == "sweep" else directory.name
            retried = ", and train again what failed" if directory in with_failed else ""
            purpose = f"continue the sweep {name}{retried}"
            if missing:
                purpose += f" (left out, add it if it is yours: {', '.join(missing)})"
            found.append(Command(purpose, command))
    again = [_path(Path(s)) if Path(s).exists() else s for s in sources]
    if again:
        for name, value in (margins or {}).items():
            again += ["--margin", f"{name}={value:g}"]
        found.append(Command("write this report again", module("analysis.report", *again)))
    return found


def _path(path: Path) -> str:
    """Relative to the working directory if it lies there."""
    absolute = path.absolute()
    if absolute.is_relative_to(Path.cwd()):
        absolute = Path(os.path.relpath(absolute))
    text = str(absolute)
    return f"./{text}" if text.startswith("-") else text
