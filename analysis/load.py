"""Trials from any source, several at once, in the same tables."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import optuna

from analysis.runs import Broken, Runs
from analysis.sources import studies, wandb_runs
from analysis.sources.found import Findings
from analysis.sources.merging import merged
from analysis.sources.records import Records
from analysis.sources.tables import runs_of
from experiments.errors import UserError
from experiments.record.addresses import sqlite_address, study_reference
from sweeps.results import reading

_RULE = (
    "a source must be a directory (of a sweep, one trial or several sweeps), an Optuna storage "
    "with its study (sqlite:///study.db#NAME, postgresql://...#NAME) or a W&B project or sweep "
    "(wandb://ENTITY/PROJECT, wandb://ENTITY/PROJECT/sweeps/ID)"
)
_JOURNALS = (".log", ".journal")
_STORAGES = (".db", ".sqlite", ".sqlite3", *_JOURNALS)
_RECORDS, _STUDIES, _RUNS = range(3)  # those whose word counts most come first


@runtime_checkable
class SweepLike(Protocol):
    """What `sweeps.run` returns."""

    study: optuna.Study
    directory: Path


Source = str | PathLike[str] | Any
"""An Optuna study, a `sweeps.Sweep` or the runs of a `wandb.Api` as well."""


def load(*sources: Source) -> Runs:
    """The trials of all sources in one table, and their histories in another.

    A trial that several sources hold is one row (see `analysis.sources.merging.merged`).

    >>> load("outputs/losses/sweep", "postgresql://host/sweeps#full").trials  # doctest: +SKIP

    Args:
        sources: each one of

            - a directory: of a sweep (`outputs/<name>/sweep`), whose study beside the records is
              read as well, of one trial, or of several sweeps (`outputs`);
            - the URL of an Optuna storage, `#` and the study's name, which may be left out where
              there is one study; or the storage's file; or an `optuna.Study`;
            - what `sweeps.run` returned;
            - `wandb://<entity>/<project>`, `wandb://<entity>/<project>/sweeps/<id>`, or what
              `wandb.Api().runs(...)` returned.

    Raises:
        UserError: there is no source, or one does not exist, answer or hold anything.
    """
    if any(isinstance(source, list | tuple) for source in sources):
        got = next(source for source in sources if isinstance(source, list | tuple))
        if not got or not hasattr(got[0], "config"):
            raise UserError(f"{_RULE}; several are several arguments, but got a list: {got!r:.200}")
    if not sources:
        raise UserError(f"{_RULE}; but got none")
    found = [Findings(), Findings(), Findings()]
    for source in sources:
        for kind, findings in _read(source):
            found[kind].add(findings)
    return runs_of(merged(found))


def _read(source: Source) -> Iterator[tuple[int, Findings]]:
    """What a source holds, by kind."""
    if isinstance(source, optuna.Study):
        yield _STUDIES, studies.read(source, f"study {source.study_name}")
    elif isinstance(source, SweepLike):
        yield from _read(source.study)
        if source.directory.is_dir():
            yield _RECORDS, Records(source.directory).findings
    elif isinstance(source, str | PathLike):
        yield from _read_address(fspath(source))
    else:
        yield _RUNS, wandb_runs.read(source)


def _read_address(text: str) -> Iterator[tuple[int, Findings]]:
    if text.startswith("wandb://"):
        yield _RUNS, wandb_runs.read(text)
    elif "://" in text:
        address, name = study_reference(text)
        yield _STUDIES, studies.read(*reading.the_study(address, name or None))
    elif Path(text).is_dir():
        yield from _read_directory(Path(text))
    elif Path(text).is_file() and text.endswith(_STORAGES):
        kind = "journal://" if text.endswith(_JOURNALS) else "sqlite:///"
        yield from _read_address(f"{kind}{Path(text).absolute()}")
    else:
        raise UserError(f"{_RULE}; but got {text!r}, which is none of these or does not exist")


def _read_directory(directory: Path) -> Iterator[tuple[int, Findings]]:
    """Its records, and the studies of the sweeps among them.

    One that cannot be read does not stand in the records' way.
    """
    found, beside = Records(directory), Findings()
    for file in found.studies:
        try:
            for study, name in reading.load_studies(sqlite_address(file)):
                beside.add(studies.read(study, name))
        except UserError as error:
            beside.broken.append(Broken(str(file), str(error)))
    if not any((found.findings.trials, found.findings.broken, beside.trials)):
        raise UserError(
            f"{_RULE}; but {directory} holds neither a record (result.json) nor a study"
        )
    yield _RECORDS, found.findings
    yield _STUDIES, beside
