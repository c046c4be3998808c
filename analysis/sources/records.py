"""Trials from the records that they left on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from analysis.runs import SEARCH, Broken, Design, parsed_design
from analysis.sources.found import (
    Findings,
    Found,
    checkpoint_in,
    config_of,
    row_of,
    run_id,
)
from experiments.errors import UserError
from experiments.record import (
    HISTORY,
    RERUN_OF,
    RESULT,
    SCHEMA_VERSION,
    STATUSES,
    read_history,
)
from experiments.record.foreign import read_json
from experiments.record.membership import (
    DESIGN,
    OWNER,
    is_foreign,
    may_hold_trials,
    membership,
    owner,
)

STUDY = "study.db"
"""The file of the study in a sweep's directory."""

_DEPTH = 4
"""How far below a folder of sweeps a trial may lie: outputs/<name>/sweep/<number> is 3."""
_SWEEPS_OWN = {OWNER, STUDY, "multirun.yaml"}
_MORE_DEPTH = 8
"""How far below a sweep's directory: `hydra.sweep.subdir` may have several parts."""


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
        self._visit(self._source, _DEPTH, _sweep_above(self._source))

    def _visit(self, directory: str, depth: int, sweep: _Sweep | None) -> bool:
        """Read the record in a directory, or those below it; whether there is anything."""
        try:
            self._add(directory, read_json(Path(directory, RESULT)), sweep)
        except FileNotFoundError:
            return depth > 0 and self._descend(directory, depth, sweep)
        except (OSError, ValueError, UserError) as error:  # ValueErrors of JSON as well
            self._note(directory, f"{RESULT} or {HISTORY} cannot be read: {error}")
        if sweep is not None and depth > 0:  # `a` and `a/b` may both be trials of a sweep
            with os.scandir(directory) as entries:
                below = sorted(entry.path for entry in entries if may_hold_trials(entry))
            for path in below:
                self._visit(path, depth - 1, sweep)
        return True

    def _descend(self, directory: str, depth: int, sweep: _Sweep | None) -> bool:
        try:
            with os.scandir(directory) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._note(directory, str(error))
            return True
        names = {entry.name for entry in children}
        if not names.isdisjoint(_SWEEPS_OWN):
            design = self._design(Path(directory, DESIGN)) if DESIGN in names else None
            sweep, depth = _Sweep(directory, owner(Path(directory)), design), _MORE_DEPTH
        if STUDY in names:
            self.studies.append(Path(directory, STUDY))
        below = {
            entry.path: self._visit(entry.path, depth - 1, sweep)
            for entry in children
            if may_hold_trials(entry)
        }
        if not any(below.values()) and STUDY not in names:
            return False
        for path, holds_trials in below.items():
            if not holds_trials:
                self._note(path, f"it holds no {RESULT}: no trial, or one that had not begun")
        return True

    def _design(self, path: Path) -> Design | None:
        try:
            return parsed_design(read_json(path))
        except (OSError, ValueError) as error:
            self._note(str(path), f"it says not how the sweep compares: {error}")
            return None

    def _is_here(self, first: Any) -> bool:
        """Whether the record of which one is a repetition is read as well."""
        return Path(str(first)).is_relative_to(self._source) and os.path.isfile(
            os.path.join(str(first), RESULT)
        )

    def _add(self, directory: str, result: Any, sweep: _Sweep | None) -> None:
        _check(result)
        if RERUN_OF in result:
            if directory != self._source and (sweep is not None or self._is_here(result[RERUN_OF])):
                return
            sweep = None  # it is no trial of the sweep
        known = membership(result)
        if sweep is not None and is_foreign(result, sweep.owner):
            self._note(directory, f"it is the record of {known}, and the sweep's is another study")
            return
        within = sweep.directory if sweep is not None else os.path.dirname(directory)
        name = os.path.relpath(directory, within)
        number = None
        if sweep is not None:
            number = int(name) if name.isdecimal() else None
            number = number if known is None else known.trial
            if sweep.design is not None:
                self.findings.designs[within, result["name"]] = sweep.design
        row = row_of(result) | {
            "source": self._source,
            "phase": SEARCH if sweep is not None else None,
            "directory": directory,
            "checkpoint": checkpoint_in(directory, result.get("checkpoint")),
        }
        self.findings.trials.append(
            Found(
                origin=within,
                sweep=result["name"] if sweep is not None else None,
                number=number,
                label=f"{result['name']}/{name}",
                config=config_of(result),
                row=row,
                history=read_history(directory),
                run=run_id(result),
            )
        )

    def _note(self, directory: str, reason: str) -> None:
        self.findings.broken.append(Broken(directory, reason))


class _Sweep(NamedTuple):
    """A sweep's directory, whose it is and what it compares, as far as it says."""

    directory: str
    owner: Mapping[str, str] | None
    design: Design | None = None


def _sweep_above(directory: str) -> _Sweep | None:
    """The sweep in whose directory a trial lies that was named itself."""
    path = Path(directory)
    for above in path.parents[:_MORE_DEPTH] if (path / RESULT).exists() else ():
        if any((above / name).exists() for name in _SWEEPS_OWN):
            return _Sweep(str(above), owner(above))
    return None


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
