"""The best trial of an Optuna study, wherever the study is stored."""

from __future__ import annotations

import re
import warnings
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.record import RESULT
from experiments.record.addresses import sqlite_file, study_reference
from experiments.record.membership import Membership, holds, recommended, records_below
from serving.model.ranking import Candidate, best

if TYPE_CHECKING:
    import optuna

_DESIGN = "design"  # as sweeps/storage/attributes.py has it
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*@")
_RULE = (
    "a study is named by the URL of its storage and its name, such as "
    "sqlite:///outputs/vae/sweep/study.db#vae"
)


def best_directory(reference: str) -> Path:
    """The record of the best trial of the study `URL#NAME`.

    Raises:
        UserError: there is no such study, it has no completed trial, or the best trial's record
            is on another machine. The message holds no password.
    """
    url, name = study_reference(reference)
    shown = _PASSWORD.sub(r"\1:***@", url or reference)
    if not url or not name:
        raise UserError(f"{_RULE}, but got {shown}")
    study = _open(url, name, shown)
    candidates = _candidates(study)
    if not candidates:
        raise UserError(f"a study must have a completed trial to be used, but {name!r} has none")
    chosen = best(candidates)
    return _record(study, Path(chosen.directory), _file(url, shown))


def _record(study: optuna.Study, directory: Path, file: Path | None) -> Path:
    """The record of the trial whose directory that was, also where a sweep was moved as a whole."""
    trial = next(t for t in study.trials if t.user_attrs.get("directory") == str(directory))
    number = int(trial.system_attrs.get("failed_trial", trial.number))
    own = Membership(study.user_attrs.get("study_id", ""), study.study_name, number)
    config = trial.user_attrs.get("identity")
    beside = records_below(file.parent) if file is not None and config is not None else ()
    for path in chain([directory], beside):
        if holds(path, own, config):
            return path
    if (directory / RESULT).exists():
        raise UserError(
            f"a study's trial must be served from its own record, but {directory} holds that of "
            f"another than {own}; train the trial again, or name another checkpoint"
        )
    raise UserError(
        f"the record of a study's best trial must be on this machine, but {directory} is not; "
        "copy it here and name its directory"
    )


def _open(url: str, name: str, shown: str) -> optuna.Study:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    path = _file(url, shown)
    if path is not None and not path.is_file():
        raise UserError(f"{_RULE}, but there is no {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.load_study(study_name=name, storage=_storage(url))
    except KeyError as error:
        raise UserError(f"{_RULE}, but {shown} holds no study {name!r}") from error
    except (ValueError, ImportError, SQLAlchemyError) as error:
        reason = _PASSWORD.sub(r"\1:***@", str(error).splitlines()[0])
        raise UserError(f"{_RULE}, but {shown} cannot be opened: {reason}") from error


def _file(url: str, shown: str) -> Path | None:
    """That of a storage in a file."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url.startswith("journal://"):
        return Path(url.removeprefix("journal://"))
    try:
        return sqlite_file(make_url(url))
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise UserError(f"{_RULE}, but got {shown}") from None


def _storage(url: str) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if url.startswith("journal://"):
        return JournalStorage(JournalFileBackend(url.removeprefix("journal://")))
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    # Optuna formats the URL, as if it were a template.
    return RDBStorage(url.replace("{", "{{").replace("}", "}}"))


def _first(trial: optuna.trial.FrozenTrial) -> int:
    """The number of the first of a chain of retries, by which a record knows its trial."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def _candidates(study: optuna.Study) -> list[Candidate]:
    """The completed trials that left a record, as the sweep's own attributes describe them."""
    import optuna

    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    params = {trial.number: trial.params for trial in trials}
    names = study.metric_names or [str(i) for i in range(len(study.directions))]
    ways = [direction.name.lower() for direction in study.directions]
    use = recommended(study.user_attrs.get(_DESIGN))
    found = []
    for trial in trials:
        directory = trial.user_attrs.get("directory")
        if directory is None or "same_as" in trial.user_attrs:
            continue
        own = params.get(trial.user_attrs.get("confirms", trial.number), trial.params)
        found.append(
            Candidate(
                directory=str(directory),
                configuration=repr(sorted((k, v) for k, v in own.items() if k != "seed")),
                objectives=tuple(zip(names, ways, strict=True)),
                values=tuple(trial.values),
                recommended=_first(trial) in use if use else None,
            )
        )
    return found
