"""A storage that is away for a moment, such as a database that restarts, costs no trial."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import optuna

from experiments.errors import PassingError, UserError, is_disk_full, with_causes
from sweeps.bounds import RETRY_WINDOW, STORAGE_CALL
from sweeps.system import REAL, System

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class LockTimeoutError(PassingError):
    """Others hold a lock for longer than anybody should."""


def retry(call: Callable[[], T], system: System = REAL, window: float = RETRY_WINDOW) -> T:
    """What `call` returns, called again for `window` seconds while the storage is away.

    Args:
        call: must do no harm when it is repeated although it has worked.
        system: whose clock counts. The time that a process is frozen does not count.
        window: seconds; one call adds no more than it may last.

    Raises:
        Exception: what the last call raised, or any that says that something is wrong.
    """
    spent, pause = 0.0, _FIRST_PAUSE
    while True:
        began = system.elapsed()
        try:
            return call()
        except Exception as error:
            if not is_away(error) or spent > window:
                raise
            log.warning("the storage is away (%s); trying again", _reason(error))
        system.sleep(pause)
        spent += min(system.elapsed() - began, STORAGE_CALL)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _reason(error: BaseException) -> str:
    """In SQLite's words, in which there is no password; of other databases only the kind."""
    of_sqlite = (str(e) for e in with_causes(error) if isinstance(e, sqlite3.Error))
    return next(of_sqlite, type(error).__name__)


def is_away(error: BaseException) -> bool:
    """Whether an error says that there is no connection or no space, which may come back."""
    if is_disk_full(error):
        return True
    kinds = (ConnectionError, TimeoutError, PassingError)
    if isinstance(error, (optuna.exceptions.StorageInternalError, *kinds)):
        return True
    if isinstance(error, UserError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError", "RpcError"})
