"""Trials from the records that they left on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from analysis.found import SEARCH, Findings, Found, Row, config_of, row_of, run_id
from analysis.runs import Broken
from experiments.record import HISTORY, RESULT, SCHEMA_VERSION, STATUSES

STUDY = "study.db"
"""The file of the study in a sweep's directory."""

_DEPTH = 4
"""How far below a folder of sweeps a trial may lie: outputs/<name>/sweep/<number> is 3."""
_SWEEPS_OWN = "multirun.yaml"
_NOT_TRIALS = {"artifacts", "checkpoints", "csv", "wandb", "workers"}


class Records:
    """Reads every trial in a trial's own directory, a sweep's, or a folder of sweeps.

    Attributes:
        findings: the trials, and what looked like one.
        studies: files of the studies that lie in sweeps' directories.
    """

    def __init__(self, directory: Path) -> None:
        self.findings = Findings()
        self.studies: list[Path] = []
        self._source = str(directory.absolute())
        self._sweeps: dict[str, bool] = {}
        self._visit(self._source, _DEPTH)

    def _visit(self, directory: str, depth: int) -> bool:
        """Read the record in a directory, or those below it; whether there is anything."""
        try:
            with open(os.path.join(directory, RESULT), "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return depth > 0 and self._descend(directory, depth)
        except OSError as error:
            self._note(directory, str(error))
            return True
        try:
            self.findings.trials.append(self._found(directory, content))
        except (ValueError, RecursionError) as error:  # ValueErrors of JSON as well
            self._note(directory, f"{RESULT} or {HISTORY} cannot be read: {error}")
        return True

    def _descend(self, directory: str, depth: int) -> bool:
        try:
            with os.scandir(directory) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._note(directory, str(error))
            return True
        names = {entry.name for entry in children}
        self._sweeps[directory] = not names.isdisjoint({_SWEEPS_OWN, STUDY})
        if STUDY in names:
            self.studies.append(Path(directory, STUDY))
        below = {
            entry.path: self._visit(entry.path, depth - 1)
            for entry in children
            if _may_hold_trials(entry)
        }
        if not any(below.values()) and STUDY not in names:
            return False
        for path, holds_trials in below.items():
            if not holds_trials:
                self._note(path, f"it holds no {RESULT}: no trial, or one that had not begun")
        return True

    def _found(self, directory: str, content: bytes) -> Found:
        result = json.loads(content)
        _check(result)
        parent, name = os.path.split(directory)
        in_sweep = self._is_sweep(parent)
        row = row_of(result) | {
            "source": self._source,
            "phase": SEARCH if in_sweep else None,
            "directory": directory,
            "checkpoint": _checkpoint(directory, result.get("checkpoint")),
        }
        return Found(
            origin=parent,
            sweep=result["name"] if in_sweep else None,
            number=int(name) if in_sweep and name.isdecimal() else None,
            label=f"{result['name']}/{name}",
            config=config_of(result),
            row=row,
            history=_history(directory),
            run=run_id(result),
        )

    def _is_sweep(self, directory: str) -> bool:
        if directory not in self._sweeps:  # of a trial that was named itself
            own = (os.path.join(directory, name) for name in (_SWEEPS_OWN, STUDY))
            self._sweeps[directory] = any(map(os.path.exists, own))
        return self._sweeps[directory]

    def _note(self, directory: str, reason: str) -> None:
        self.findings.broken.append(Broken(directory, reason))


def _may_hold_trials(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.name not in _NOT_TRIALS and entry.is_dir()


def _check(result: Any) -> None:
    """Raise ValueError for what this version of vaesweep did not write."""
    if not isinstance(result, dict):
        raise ValueError(f"a record must be an object, but is {type(result).__name__}")
    if result.get("schema") != SCHEMA_VERSION:
        raise ValueError(
            f"a record must have schema {SCHEMA_VERSION}, but has {result.get('schema')!r}; "
            "use the version of vaesweep that wrote it"
        )
    if result.get("status") not in STATUSES or not isinstance(result.get("name"), str):
        raise ValueError(f"a record must have a name, and a status of {', '.join(STATUSES)}")


def _checkpoint(directory: str, name: Any) -> str | None:
    path = os.path.join(directory, str(name))
    return path if name and os.path.isfile(path) else None


def _history(directory: str) -> list[Row]:
    """The rows, without one that a killed process left unfinished."""
    try:
        with open(os.path.join(directory, HISTORY), "rb") as file:
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:  # nothing was validated yet
        return []
    rows: list[Row] = json.loads(b"[" + b",".join(x for x in lines if x.endswith(b"}\n")) + b"]")
    return rows
