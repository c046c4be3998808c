"""What run.log holds beyond the messages that the code logs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

log = logging.getLogger(__name__)


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
