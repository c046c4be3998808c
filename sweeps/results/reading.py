"""Optuna storages opened to be read: a missing one is not made, a read-only one is no problem."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UserError
from experiments.record.addresses import reading_address, sqlite_file
from experiments.record.foreign import first_line
from sweeps.storage import databases
from sweeps.storage.answers import answer, prompt_answer, redacted, scrubbed
from sweeps.storage.attributes import STUDY
from sweeps.storage.opening import normalised, open_storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage


def load_studies(url: str, name: str | None = None) -> list[tuple[Study, str]]:
    """Studies of vaesweep in a storage, each with its name for people, without passwords.

    Args:
        url: as `hydra.sweeper.storage` takes it.
        name: of one study; None for all.

    Raises:
        UserError: the storage does not exist or does not answer, or has no such study.
    """
    with readable(url):
        return _load(url, name)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """A context that reads what somebody else may have stored.

    Raises:
        UserError: whatever Optuna and SQLAlchemy answer a broken storage with.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"a study must be one that Optuna can read, but {redacted(source)} gives: "
            f"{scrubbed(first_line(error), source)[:300]}"
        ) from error


def _load(url: str, name: str | None) -> list[tuple[Study, str]]:
    import optuna

    storage = _open(url)
    shown = redacted(url)
    names = answer(lambda: optuna.get_all_study_names(storage), url)
    if name is not None and name not in names:
        raise UserError(
            f"a study must be one of those in {shown} ({', '.join(names) or 'none'}), "
            f"but got {name!r}"
        )
    studies = [
        answer(lambda n=n: optuna.load_study(study_name=n, storage=storage), url)  # type: ignore[misc]
        for n in (names if name is None else [name])
    ]
    return [
        (study, f"{shown}#{study.study_name}")
        for study in studies
        if name is not None or STUDY in study.user_attrs
    ]


def the_study(url: str, name: str | None) -> tuple[Study, str]:
    """The study of that name or, without a name, the only one.

    Raises:
        UserError: as `load_studies`, or the storage holds several.
    """
    studies = load_studies(url, name)
    if len(studies) == 1:
        return studies[0]
    if not studies:
        raise UserError(f"a storage must hold the study of a sweep, but {redacted(url)} holds none")
    raise UserError(
        f"a storage with several studies needs #STUDY after its address: {redacted(url)} has "
        f"{', '.join(f'#{study.study_name}' for study, _ in studies)}"
    )


def _open(url: str) -> BaseStorage:
    plain = normalised(url, Path())
    assert isinstance(plain, str)
    if plain.startswith("grpc://"):
        return open_storage(plain, Path())
    if plain.startswith("journal://"):
        return _journal(Path(plain.removeprefix("journal://")))
    return _database(plain)


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _check_file(path)
    return answer(lambda: JournalStorage(JournalFileBackend(str(path))), str(path))


def _database(url: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    parsed = databases.parsed(url)
    databases.check_driver(parsed, url)
    options = databases.engine_options(parsed)
    path = sqlite_file(parsed)
    if path is None:
        address = parsed.render_as_string(hide_password=False)
    else:
        _check_file(path)
        address = reading_address(path)
    # Optuna formats the URL, as if it were a template.
    template = address.replace("{", "{{").replace("}", "}}")

    def build() -> BaseStorage:
        storage = RDBStorage(template, options, skip_table_creation=True)
        weakref.finalize(storage, databases.dispose, storage.engine, os.getpid())
        return storage

    return answer(build, url) if path is not None else prompt_answer(build, url)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"a study's storage must be a file that exists, but got {path}")
