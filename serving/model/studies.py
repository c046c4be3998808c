"""The best trial of an Optuna study, wherever the study is stored."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import PassingError, UserError, is_for_good
from experiments.record import RESULT
from experiments.record.addresses import reading_address, sqlite_file, study_reference
from experiments.record.foreign import check_regular, first_line
from experiments.record.membership import Membership, holds, recommended, records_below
from serving.model.best import Candidate, best

if TYPE_CHECKING:
    import optuna

_DESIGN = "design"  # as sweeps/storage/attributes.py has it
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*@")
_RULE = (
    "a study is named by the URL of its storage and its name, such as "
    "sqlite:///outputs/vae/sweep/study.db#vae"
)


@dataclass(frozen=True)
class _Trial:
    """A completed trial that left a record, and whose it is."""

    candidate: Candidate
    membership: Membership
    config: str | None


def best_directory(reference: str) -> Path:
    """The record of the best trial of the study `URL#NAME`.

    Raises:
        PassingError: the database does not answer.
        UserError: there is no such study, it has no completed trial, the best trial's record is on
            another machine, or Optuna is missing. The message holds no password.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            "a study is read by the package optuna, which is missing here: pip install optuna, or "
            "name the directory of a trial"
        )
    url, name = study_reference(reference)
    shown = _PASSWORD.sub(r"\1:***@", url or reference)
    if not url or not name:
        raise UserError(f"{_RULE}, but got {shown}")
    file = _file(url, shown)
    try:
        trials = list(_trials(_load(url, name, file)))
    except KeyError as error:
        raise UserError(f"{_RULE}, but {shown} holds no study {name!r}") from error
    except UserError:
        raise
    except Exception as error:  # Optuna and SQLAlchemy answer broken storages with any at all
        cause = _innermost(error)
        reason = _PASSWORD.sub(r"\1:***@", first_line(cause)[:300])
        if _is_away(cause) and not is_for_good(str(cause)):
            raise PassingError(
                f"the database of a study must answer, but {shown} does not: {reason}; check its "
                "host and port, and that it is up"
            ) from error
        raise UserError(f"{_RULE}, but {shown} cannot be read: {reason}") from error
    if not trials:
        raise UserError(f"a study must have a completed trial to be used, but {name!r} has none")
    chosen = best([trial.candidate for trial in trials], f"the study {name!r}")
    return _record(next(trial for trial in trials if trial.candidate is chosen), file)


def _innermost(error: BaseException) -> BaseException:
    """What a driver said: Optuna's and SQLAlchemy's own words are about something else."""
    while cause := getattr(error, "orig", None) or error.__cause__:
        error = cause
    return error


def _is_away(cause: BaseException) -> bool:
    """Whether a driver, of any database, had no connection."""
    names = {kind.__name__ for kind in type(cause).__mro__}
    return bool(names & {"OperationalError", "InterfaceError", "ConnectionError", "TimeoutError"})


def _record(trial: _Trial, file: Path | None) -> Path:
    """The record of a trial, also where a sweep was moved as a whole."""
    directory = trial.candidate.directory
    beside = records_below(file.parent) if file is not None and trial.config is not None else ()
    for path in chain([directory], beside):
        if holds(path, trial.membership, trial.config):
            return path
    if (directory / RESULT).exists():
        raise UserError(
            f"a study's trial must be served from its own record, but {directory} holds that of "
            f"another than {trial.membership}; train the trial again, or name another checkpoint"
        )
    raise UserError(
        f"the record of a study's best trial must be on this machine, but {directory} is not; "
        "copy it here and name its directory"
    )


def _file(url: str, shown: str) -> Path | None:
    """That of a storage in a file."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        is_journal = url.startswith("journal://")
        path = Path(url.removeprefix("journal://")) if is_journal else sqlite_file(make_url(url))
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise UserError(f"{_RULE}, but got {shown}") from None
    try:
        if path is not None:
            check_regular(path)
    except FileNotFoundError:
        raise UserError(f"{_RULE}, but there is no {path}") from None
    except OSError as error:
        raise UserError(f"{_RULE}, but {path}: {error.strerror}") from error
    return path


def _load(url: str, name: str, file: Path | None) -> optuna.Study:
    """The study, to be read."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage: optuna.storages.BaseStorage
        if url.startswith("journal://"):
            storage = JournalStorage(JournalFileBackend(str(file)))
        else:
            url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
            url = url if file is None else reading_address(file)
            # Optuna formats the URL, as if it were a template.
            template = url.replace("{", "{{").replace("}", "}}")
            storage = RDBStorage(template, skip_table_creation=True)
        return optuna.load_study(study_name=name, storage=storage)


def _trials(study: optuna.Study) -> Iterator[_Trial]:
    """The completed trials that left a record, as the sweep's own attributes describe them."""
    import optuna

    attributes: Mapping[str, Any] = study.user_attrs
    design = attributes.get(_DESIGN)
    use = recommended(design if isinstance(design, Mapping) else None)
    objective = str((study.metric_names or ["objective"])[0])
    maximize = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        directory, config = (trial.user_attrs.get(key) for key in ("directory", "identity"))
        if not isinstance(directory, str) or "same_as" in trial.user_attrs:
            continue
        # A record knows its trial by the number of the first of a chain of retries.
        first = trial.system_attrs.get("failed_trial", trial.number)
        number = first if type(first) is int else trial.number
        yield _Trial(
            Candidate(Path(directory), objective, float(trial.values[0]), maximize, number in use),
            Membership(str(attributes.get("study_id", "")), study.study_name, number),
            config if isinstance(config, str) else None,
        )
