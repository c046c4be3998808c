"""Trials from any source, several at once, in the same tables."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from analysis.found import Findings
from analysis.runs import Broken, Runs
from experiments.addresses import sqlite_address, study_reference
from experiments.errors import UserError

if TYPE_CHECKING:
    import optuna

_RULE = (
    "a source must be a directory (of a sweep, one trial or several sweeps), an Optuna storage "
    "with its study (sqlite:///study.db#NAME, postgresql://...#NAME) or a W&B project or sweep "
    "(wandb://ENTITY/PROJECT, wandb://ENTITY/PROJECT/sweeps/ID)"
)
_JOURNALS = (".log", ".journal")
_STORAGES = (".db", ".sqlite", ".sqlite3", *_JOURNALS)


@runtime_checkable
class SweepLike(Protocol):
    """What `sweeps.run` returns."""

    study: optuna.Study
    directory: Path


Source = str | PathLike[str] | Any
"""An Optuna study, a `sweeps.Sweep` or the runs of a `wandb.Api` as well."""


def load(*sources: Source) -> Runs:
    """The trials of all sources in one table, and their histories in another.

    A trial that several sources hold is one row (see `analysis.merging.merged`).

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
    from analysis.merging import merged
    from analysis.tables import runs_of

    if not sources:
        raise UserError(f"{_RULE}; but got none")
    records, studies, runs = Findings(), Findings(), Findings()
    with _no_collection():
        for source in sources:
            _read(source, records, studies, runs)
        return runs_of(merged([records, studies, runs]))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles: among millions of new objects a quarter of the time.

    Nothing that is read here makes any.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(source: Source, records: Findings, studies: Findings, runs: Findings) -> None:
    if not isinstance(source, str | PathLike):
        _read_object(source, records, studies, runs)
        return
    text = fspath(source)
    if text.startswith("wandb://"):
        runs.add(_wandb(text))
    elif "://" in text:
        studies.add(_storage(text))
    elif Path(text).is_dir():
        _read_directory(Path(text), records, studies)
    elif Path(text).is_file() and text.endswith(_STORAGES):
        kind = "journal://" if text.endswith(_JOURNALS) else "sqlite:///"
        studies.add(_storage(f"{kind}{Path(text).absolute()}"))
    else:
        raise UserError(f"{_RULE}; but got {text!r}, which is none of these or does not exist")


def _read_object(source: Any, records: Findings, studies: Findings, runs: Findings) -> None:
    import optuna

    if isinstance(source, SweepLike):
        studies.add(_study(source.study))
        if source.directory.is_dir():
            _read_directory(source.directory, records, Findings(), must_hold=False)
    elif isinstance(source, optuna.Study):
        studies.add(_study(source))
    else:
        runs.add(_wandb(source))


def _read_directory(
    directory: Path, records: Findings, studies: Findings, *, must_hold: bool = True
) -> None:
    from analysis.sources.records import Records

    found = Records(directory)
    records.add(found.findings)
    beside = _studies_beside(found.studies)
    studies.add(beside)
    if must_hold and not any((found.findings.trials, found.findings.broken, beside.trials)):
        raise UserError(
            f"{_RULE}; but {directory} holds neither a record (result.json) nor a study"
        )


def _studies_beside(files: list[Path]) -> Findings:
    """Those in sweeps' directories: one that cannot be read does not stand in the records' way."""
    findings = Findings()
    if files:
        from analysis.sources import storages, studies

        for file in files:
            try:
                for study, name in storages.load_studies(sqlite_address(file)):
                    findings.add(studies.read(study, name))
            except UserError as error:
                findings.broken.append(Broken(str(file), str(error)))
    return findings


def _storage(url: str) -> Findings:
    from analysis.sources import storages, studies

    address, name = study_reference(url)
    return studies.read(*storages.the_study(address, name or None))


def _study(study: optuna.Study) -> Findings:
    from analysis.sources import studies

    return studies.read(study, f"study {study.study_name}")


def _wandb(source: Any) -> Findings:
    from analysis.sources import wandb_runs

    return wandb_runs.read(source)
