"""A home for processes that have none: in a container the user may be any number.

Libraries keep settings and caches in the home directory, and ask who the user is. Some raise where
there is no answer, others make a folder called `~`.
"""

from __future__ import annotations

import atexit
import getpass
import logging
import os
import shutil
import tempfile
from pathlib import Path

from experiments.errors import UserError

_CACHES = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
"""Where libraries write that would else write below the home directory."""

log = logging.getLogger(__name__)


def ensure_home() -> None:
    """Let this process, and those it starts, have a home directory and a user's name.

    One that exists stays, so that what it holds counts (W&B's key and settings); if nobody may
    write there, caches go elsewhere. What is made here goes with the process.

    Raises:
        UserError: there is no place for temporary files.
    """
    if not _has_name():
        os.environ["LOGNAME"] = str(os.getuid())
    home = os.path.expanduser("~")
    if os.path.isdir(home):
        os.environ.setdefault("HOME", home)  # W&B's own process does not ask the list of users
    if not os.path.isdir(home) and not ("HOME" in os.environ and _can_be_made(Path(home))):
        why = (
            f"HOME is {home}, which is no directory and cannot be made"
            if "HOME" in os.environ
            else (f"HOME is not set, and user {os.getuid()} is not in the list of users")
        )
        os.environ["HOME"] = _temporary()
        log.warning(
            "there is no home directory (%s): going on with an empty one, without W&B's key and "
            "settings; set HOME, or WANDB_API_KEY, to have them",
            why,
        )
    elif os.path.isdir(home) and not os.access(home, os.W_OK | os.X_OK):
        missing = [name for name in _CACHES if name not in os.environ]
        if missing:
            elsewhere = _temporary()
            os.environ.update(dict.fromkeys(missing, elsewhere))


def _can_be_made(home: Path) -> bool:
    """Whether a home that does not exist yet will, when a library writes there."""
    above = next(path for path in home.absolute().parents if path.exists())
    return not home.exists() and above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def _has_name() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return False


def _temporary() -> str:
    try:
        made = Path(tempfile.mkdtemp(prefix="vaesweep-home-"))
    except OSError as error:
        raise UserError(
            "there must be a directory for temporary files that can be written, but "
            f"{error.strerror or error}; set TMPDIR to one"
        ) from error
    process = os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # a fork leaves it to its parent
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    return str(made)
