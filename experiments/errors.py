"""Errors that are meant for the person at the terminal."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

REFUSED = 2
"""Exit status of what would fail again: a mistake of the user's, or a trial that failed; also
argparse's. Python's own, of a traceback, is 1."""

PASSING = 75
"""Exit status of what may pass: the same command may work later. EX_TEMPFAIL of sysexits.h."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_FOR_GOOD = re.compile(
    "password|authentication|permission|pg_hba|access denied|does not exist|unknown database"
    "|read-?only|unable to open|no such (file|table|column)|not a directory|file exists"
    # Hosts that nobody knows, as systems and gRPC put it; EAI_AGAIN is none of these.
    "|name or service not known|nodename nor servname|name does not resolve|domain name not found"
    "|no address associated",
    re.IGNORECASE,
)


class UserError(Exception):
    """A mistake the user can mend: the message states the rule, the value received, the remedy.

    `run.py` prints it without a traceback (unless HYDRA_FULL_ERROR=1) and exits with `exit_status`.
    """


class PassingError(UserError):
    """What nobody need mend: a server that does not answer, a lock that is held."""


class DiskFullError(PassingError):
    """A disk that takes less than a trial needs; there is nothing wrong with the trial."""


class TrialError(UserError):
    """A trial that failed while it trained; its record says why."""


class RecordLockedError(PassingError, TimeoutError):
    """A record that another process holds for too long; there is nothing wrong with its trial."""


class Interrupted(Exception):  # noqa: N818  # nothing went wrong
    """A trial that was asked to stop and can be continued."""


class Pruned(Exception):  # noqa: N818
    """Raised to give a trial up, with the reason as its message."""


class Paused(Pruned):
    """A trial that is given up for now: it goes on from its checkpoint if the others disappoint."""


class Superseded(Interrupted):
    """A trial that another process goes on with: this one writes nothing more about it."""


def printable(text: str, kept: str = "") -> str:
    """Text with what a terminal cannot or must not show escaped: control characters, among others.

    Args:
        text: such as the name of a file, which may be somebody else's.
        kept: characters that stay all the same.
    """
    if text.isprintable():
        return text
    shown = (
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(shown)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no space left."""
    return any(
        isinstance(e, DiskFullError)
        or (isinstance(e, OSError) and e.errno in _NO_SPACE)
        or getattr(e, "sqlite_errorname", None) == "SQLITE_FULL"
        for e in with_causes(error)
    )


def exit_status(error: BaseException) -> int:
    """Of a command that an error for people ends."""
    passes = is_disk_full(error) or any(
        isinstance(e, PassingError | ConnectionError | TimeoutError)
        or (isinstance(e, socket.gaierror) and e.errno == socket.EAI_AGAIN)
        for e in with_causes(error)
    )
    return PASSING if passes else REFUSED


def is_for_good(said: str) -> bool:
    """Whether a database says what no waiting helps, such as of a user or host nobody knows."""
    return bool(_FOR_GOOD.search(said))


def with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
