"""A single run, in a directory of its own, where its command continues it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.cli import commands
from experiments.errors import Interrupted, PassingError, is_disk_full
from experiments.record import LAST, discard
from experiments.record.membership import is_finished, refuse_taken, result_in

log = logging.getLogger(__name__)


@contextmanager
def single_run(directory: Path, launcher: str | None = None) -> Iterator[None]:
    """Hold the directory of a run, and say how to continue it where it is interrupted.

    Args:
        directory: of the run.
        launcher: what started the command's processes; None for a person, who started one.

    Raises:
        UserError: the directory has a finished record, is a sweep's or that of a sweep's trial,
            or another process trains there.
    """
    with _alone(directory):
        refuse_taken(directory)
        try:
            yield
        except BaseException as error:
            discard(directory)  # where nothing has begun
            stopped = SystemExit | KeyboardInterrupt | Interrupted
            if isinstance(error, stopped) or is_disk_full(error):
                _say_how_to_continue(directory, launcher)
            raise


def _say_how_to_continue(directory: Path, launcher: str | None) -> None:
    if not (directory / LAST).exists():
        result = result_in(directory)
        if result is None or not is_finished(result):
            record = f"; record: {directory}" if result is not None else ""
            log.info(
                "it has no checkpoint yet: give the same command again, which begins anew%s", record
            )
    elif launcher is None:
        log.info("to continue: %s", commands.train_in(directory))
    else:  # whose own arguments nobody knows here
        log.info(
            "to continue, start run.py by %s as before, but with %s",
            launcher,
            commands.arguments_in(directory),
        )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory, as far as the file system can lock a folder."""
    try:
        import fcntl

        folder = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):  # the first file that is written says better what is wrong
        yield
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            os.close(folder)
            raise PassingError(
                "a run must have a directory of its own, but another process trains in "
                f"{directory}; wait for it, or give another hydra.run.dir"
            ) from error
        log.debug("%s cannot be locked", directory, exc_info=True)
    try:
        yield
    finally:
        # Unlocked by name: a process forked meanwhile has a copy of the descriptor.
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)
        os.close(folder)
