"""What run.log holds beyond the messages that the code logs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from experiments.record.fence import is_lost

log = logging.getLogger(__name__)


@contextmanager
def only_by_owner() -> Iterator[None]:
    """Keep messages out of the files of a record that is another process's by now."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    filters = [(handler, partial(_is_ours, Path(handler.baseFilename))) for handler in handlers]
    for handler, is_ours in filters:
        handler.addFilter(is_ours)
    try:
        yield
    finally:
        for handler, is_ours in filters:
            handler.removeFilter(is_ours)


def _is_ours(path: Path, record: logging.LogRecord) -> bool:
    return not is_lost(path)


@contextmanager
def warnings_logged() -> Iterator[None]:
    """Send Python's warnings where messages go, so that run.log has them, too.

    `logging.captureWarnings` would end the capture of whoever called us.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _log
        yield


def _log(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    log.warning("%s", warnings.formatwarning(message, category, filename, lineno, line).rstrip())
