"""A storage that is away for a moment, such as a database that restarts, costs no trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import optuna

from experiments.errors import UserError

PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

log = logging.getLogger(__name__)

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> T:
    """What `call` returns, called again for `PATIENCE_SECONDS` while the storage is away.

    `call` must do no harm when it is repeated although it has worked.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not _is_away(error) or time.monotonic() + pause > deadline:
                raise
            log.warning("the storage is away (%s); trying again", type(error).__name__)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_away(error: BaseException) -> bool:
    """Whether an error says that there is no connection, rather than that something is wrong."""
    if isinstance(error, optuna.exceptions.StorageInternalError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, UserError):  # a lock whose server does not answer
        return "storage must" in str(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError", "RpcError"})
