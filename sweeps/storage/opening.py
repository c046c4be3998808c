"""The storage that all workers of a sweep share: opened from a path, a URL or a mapping."""

from __future__ import annotations

import shlex
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from experiments.cli import commands
from experiments.errors import UserError
from experiments.record import addresses
from losses.trust import VARIABLE, trusted_packages
from sweeps.storage import databases
from sweeps.storage.answers import answer, prompt_answer, redacted
from sweeps.storage.locks import lock
from sweeps.storage.rdb import check_directory, open_rdb

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import URL

__all__ = [
    "Storage",
    "dashboard_command",
    "file_of",
    "lock",
    "normalised",
    "open_storage",
    "redacted",
]

Storage = None | str | Mapping[str, Any]
"""What a config may say: nothing, a URL or a journal's path, or a mapping with `_target_`."""

_DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")
_JOURNALS = (".log", ".journal")
_RULE = (
    "The sweep's storage must be sqlite:///sweep.db, postgresql://user:password@host/database, "
    "mysql://user:password@host/database, journal:///shared/sweep.log, grpc://host:port, or a "
    "mapping with _target_, a class of optuna.storages"
)


def open_storage(storage: Storage, default: Path, **rdb: Any) -> BaseStorage:
    """Open the storage of a sweep and make sure that it answers.

    Args:
        storage: None for the SQLite file `default`; the URL of a SQLite file, a PostgreSQL or
            MySQL database, a journal file or a gRPC proxy; the path of a journal file (*.log,
            *.journal); or a mapping with `_target_`, a class in `optuna.storages` or in a package
            that the environment variable VAESWEEP_TRUST names.
        default: the SQLite file if `storage` is None; its directory is made.
        rdb: keyword arguments for `optuna.storages.RDBStorage`, such as `heartbeat_interval`;
            other storages, which have no heartbeat, do without them.

    Raises:
        UserError: the storage is malformed, not allowed or not writable, or does not answer
            within 10 s. The message never holds a password.
    """
    from optuna.exceptions import ExperimentalWarning

    plain = normalised(storage, default)
    if storage is None:
        answer(lambda: default.absolute().parent.mkdir(parents=True, exist_ok=True), plain)
    with warnings.catch_warnings():
        # Heartbeats and the gRPC proxy are "experimental" to Optuna; users can do nothing there.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if isinstance(plain, dict):
            return _open_mapping(plain, rdb)
        if plain.startswith("journal://"):
            return _open_journal(plain)
        if plain.startswith("grpc://"):
            return _open_grpc(plain)
        return open_rdb(plain, rdb, plain)


def normalised(storage: Storage, default: Path) -> str | dict[str, Any]:
    """The same storage in plain values with absolute paths, as workers elsewhere open it.

    Raises:
        UserError: the value names no known kind of storage, or one that workers cannot share.
    """
    if storage is None:
        return addresses.sqlite_address(default)
    if isinstance(storage, str):
        return _normalised_url(storage)
    plain = _plain(storage)
    if not isinstance(plain, dict) or not isinstance(plain.get("_target_"), str):
        raise UserError(f"{_RULE}; but got {redacted(plain)}")
    if plain["_target_"].endswith(".InMemoryStorage"):
        raise _not_shared(plain)
    return {key: _with_absolute_paths(value, key) for key, value in plain.items()}


def file_of(storage: str | Mapping[str, Any]) -> Path | None:
    """The file that a normalised storage is in, if it is in one."""
    url = databases.address(storage)
    if url is None or url.startswith("grpc://"):
        return None
    if url.startswith("journal://"):
        return Path(url.removeprefix("journal://"))
    return addresses.sqlite_file(databases.parsed(url))


def dashboard_command(storage: str | Mapping[str, Any]) -> str:
    """The command that shows a normalised storage in `optuna-dashboard`; it holds no password."""
    url = databases.address(storage)
    if url is None or url.startswith("grpc://"):
        return f"optuna-dashboard ADDRESS (of the database behind {redacted(storage)})"
    if url.startswith("journal://"):
        return f"optuna-dashboard {shlex.quote(url.removeprefix('journal://'))}"
    parsed = databases.parsed(url)
    shown = redacted(parsed.render_as_string(hide_password=False))
    if parsed.get_backend_name() == "postgresql" and parsed.password is not None:
        shown = shown.replace(":***@", "@")
        return f'PGPASSWORD="$PGPASSWORD" optuna-dashboard {shlex.quote(shown)}'
    if "***" in shown:
        return f'optuna-dashboard "{shown.replace("***", "$PASSWORD")}"'
    return f"optuna-dashboard {shlex.quote(shown)}"


def _normalised_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator and url.endswith(_JOURNALS):
        return f"journal://{Path(url).absolute()}"
    dialect, plus, driver = scheme.partition("+")
    if scheme == "journal" and rest:
        return f"journal://{Path(rest).absolute()}"
    if scheme == "grpc" and rest:
        return url
    if not separator or dialect not in _DATABASES:
        raise UserError(f"{_RULE}; but got {redacted(url)}")
    if dialect == "postgres":  # as some hosting services write it
        dialect = "postgresql"
    url = f"{dialect}{plus}{driver}://{rest}"
    parsed = databases.parsed(url)
    path = addresses.sqlite_file(parsed)
    if path is None:
        return url
    if str(path) in {"", ".", ":memory:"} or parsed.query.get("mode") == "memory":
        raise _not_shared(url)
    _refuse_stray_query(parsed, url)
    whole = addresses.at_path(parsed, path.absolute())
    return whole.render_as_string(hide_password=False)


def _refuse_stray_query(parsed: URL, url: str) -> None:
    """A `?` of a path begins the options of an address, which would be those of another file."""
    query = url.partition("?")[2]
    if "#" in url or not all("=" in pair for pair in query.split("&") if pair):
        raise UserError(
            "In the address of a SQLite file ? stands before options, and what belongs to the path "
            f"is percent-encoded (? is %3F, # is %23, % is %25), but got {url}; "
            "write those so, or leave the storage out for a file in the sweep's directory"
        )


def _not_shared(storage: Any) -> UserError:
    return UserError(
        "The sweep's storage must be one that several processes share, but got "
        f"{redacted(storage)}; leave it out for a SQLite file in the sweep's directory"
    )


def _plain(value: Any) -> Any:
    from omegaconf import OmegaConf

    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _with_absolute_paths(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_absolute_paths(item, name) for name, item in value.items()}
    if key == "url" and isinstance(value, str) and value.startswith("sqlite"):
        return _normalised_url(value)
    if key in {"file_path", "filepath"} and isinstance(value, str):
        return str(Path(value).absolute())
    return value


def _open_mapping(mapping: dict[str, Any], rdb: Mapping[str, Any]) -> BaseStorage:
    from optuna.storages import BaseStorage

    if mapping["_target_"] == "optuna.storages.RDBStorage" and isinstance(mapping.get("url"), str):
        rest = {name: item for name, item in mapping.items() if name not in {"_target_", "url"}}
        options = answer(lambda: _instantiated(rest, _allowed()), mapping)
        return open_rdb(mapping["url"], {**rdb, **options}, mapping)

    allowed = _allowed()
    import hydra.utils  # noqa: F401  # not within the time that the storage has

    def build() -> BaseStorage:
        built = _instantiated(mapping, allowed)
        if not isinstance(built, BaseStorage):
            raise UserError(
                "The sweep's storage must be an optuna.storages.BaseStorage, but "
                f"{redacted(mapping)} is a {type(built).__name__}"
            )
        _ask(built)
        return built

    return prompt_answer(build, mapping)


def _allowed() -> list[str]:
    """What the `_target_` of a storage may name."""
    return ["optuna.storages.*", *(f"{name}.*" for name in trusted_packages())]


def _instantiated(mapping: dict[str, Any], allowed: list[str]) -> Any:
    """The mapping with each `_target_` in it called, if it may be."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(mapping, _convert_="all", _execution_whitelist_=allowed)
    except InstantiationException as error:
        if "whitelist" not in str(error):
            raise
        raise UserError(
            "The sweep's storage may be built by optuna.storages and by packages that you trust, "
            f"but got {redacted(mapping)}; if you trust it, name its package in the environment "
            f"variable {VARIABLE}"
        ) from None


def _ask(storage: BaseStorage) -> None:
    try:
        storage.get_study_id_from_name("")
    except KeyError:  # there is no such study, says a storage that answers
        return


def _open_journal(url: str) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileOpenLock

    from sweeps.storage.private import WholeLines

    path = Path(url.removeprefix("journal://"))
    check_directory(path.parent, url)

    def build() -> BaseStorage:
        with tempfile.TemporaryFile(dir=path.parent), path.open("ab"):
            pass  # refused where the directory (for locks) or the file is read-only
        # Unlike Optuna's symbolic link, this lock notices that another worker has broken a dead
        # worker's lock and made its own. The two exclude each other, and so does the dashboard.
        backend = WholeLines(str(path), JournalFileOpenLock(str(path)))
        return JournalStorage(backend)

    return answer(build, url)


def _open_grpc(url: str) -> BaseStorage:
    try:
        import grpc  # noqa: F401  # the user may have to install it
    except ImportError:
        raise UserError(
            f"The sweep's storage {redacted(url)} needs the package grpcio, which cannot be "
            f"imported: {commands.install('grpc')}"
        ) from None
    from sweeps.storage.proxy import OnceOnlyProxy

    def build() -> BaseStorage:
        parts = urlsplit(url)
        storage = OnceOnlyProxy(host=parts.hostname or "localhost", port=parts.port or 13000)
        _ask(storage)
        storage.reconnect_soon()
        return storage

    return prompt_answer(build, url)
