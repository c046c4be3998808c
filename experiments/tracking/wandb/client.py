"""The W&B client's own process (wandb 0.31): kept silent, bounded in time, and out of the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

CLIENT_SECONDS = 5.0
"""How much longer it waits for the client itself, which an upload that cannot end holds up."""


def hand_over_artifacts(run: Any) -> None:
    """Have the run hand over artifacts, tables among them, to its client as an offline run does.

    Otherwise it asks the server about each of them, and where that is gone waits 20 s for it.
    """
    log_artifact, settings = run._log_artifact, run._settings

    def without_asking(*arguments: Any, **options: Any) -> Any:
        settings.mode = "offline"
        try:
            return log_artifact(*arguments, **options)
        finally:
            settings.mode = "online"

    run._log_artifact = without_asking


def end_client(seconds: float = CLIENT_SECONDS) -> None:
    """End the process of the client, in order or else by force; the next run starts another."""
    import wandb
    from wandb.sdk import wandb_setup

    connection = wandb_setup.singleton()._connection
    with suppress(*failures()):
        if not within(seconds, wandb.teardown) and connection and connection._proc:
            connection._proc._process.kill()


def within(seconds: float, action: Callable[[], object]) -> bool:
    """Do something for a while at most; whether it ended. What it raises is raised here."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  # for the thread that waits
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised and isinstance(raised[0], Exception):  # the client would end the whole process
        raise raised[0]
    return not thread.is_alive()


@contextmanager
def telemetry_off() -> Iterator[None]:
    """Keep the client from reporting on itself, unless the user has a say.

    With a server that accepts connections and never answers, those reports hold the process for
    20 s at its exit.
    """
    name = "WANDB_ERROR_REPORTING"
    if name in os.environ:
        yield
        return
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]


def failures() -> tuple[type[Exception], ...]:
    """What the client raises when it or its server fails, rather than its caller."""
    import wandb
    from wandb.sdk.mailbox.mailbox import MailboxClosedError
    from wandb.sdk.mailbox.mailbox_handle import HandleAbandonedError, ServerResponseError

    return (wandb.Error, OSError, HandleAbandonedError, MailboxClosedError, ServerResponseError)
