"""Libraries' answers about a storage, in bounded time and without passwords."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from experiments.errors import UserError
from sweeps.redaction import redacted, scrubbed

ANSWER_SECONDS = 9.0
"""How long a storage may take to answer for the first time."""

T = TypeVar("T")


def answer(ask: Callable[[], T], storage: Any) -> T:
    """What `ask` returns, or why it could not, as the user may read it.

    Raises:
        UserError: `ask` raised; the message names the storage, but never its password.
    """
    try:
        return ask()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  # of any database driver
        # Not chained: the cause's own message and the frames' values may hold the password.
        raise UserError(refusal(error, storage)) from None


def prompt_answer(ask: Callable[[], T], storage: Any) -> T:
    """Like `answer`, also for what may never return, such as a server that accepts and is silent.

    Raises:
        UserError: `ask` raised or took too long.
    """
    results: list[T] = []
    errors: list[UserError] = []

    def run() -> None:
        try:
            results.append(answer(ask, storage))
        except UserError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="first answer of the storage", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if errors:
        raise UserError(str(errors[0]))
    if not results:
        raise UserError(
            f"The sweep's storage must answer within {ANSWER_SECONDS:g} s, but {redacted(storage)} "
            "did not; check its host and port, and that the server is up"
        )
    return results[0]


def refusal(error: Exception, storage: Any) -> str:
    """The message for a storage that refused."""
    details = getattr(error, "details", None)  # gRPC's
    said = str(getattr(error, "orig", None) or (details() if callable(details) else error))
    said = scrubbed(" ".join(said.split()), storage)
    return (
        f"The sweep's storage must be reachable and writable, but {redacted(storage)} answered "
        f"{type(error).__name__}: {said[:500]}; check that it exists and is up, and the user, "
        "password and database in its address"
    )
