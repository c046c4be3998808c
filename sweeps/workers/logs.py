"""How much is logged, and logging as it was after a trial had its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

Verbose = bool | str | Sequence[str]
"""`hydra.verbose`: whether all loggers say everything, or the names of those that do."""


def say_more(verbose: Verbose) -> None:
    """Let loggers say everything, as Hydra does for `hydra.verbose`."""
    if isinstance(verbose, bool):
        names: Sequence[str | None] = [None] if verbose else ()
    else:
        names = [verbose] if isinstance(verbose, str) else verbose
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)


def first_line(text: str) -> str:
    """Of a reason, which may be a whole traceback."""
    lines = text.strip().splitlines()
    return lines[0] if lines else ""


@contextmanager
def restored(config: DictConfig) -> Iterator[None]:
    """A context in which Hydra configures logging for a trial; afterwards it is as it was.

    Hydra itself leaves a job's handlers in place, so that what a worker does next would be
    written into the files of its last trial.

    Args:
        config: of the trial, with `hydra.job_logging` and `hydra.verbose`.
    """
    before = {
        logger: (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
        for logger in _touched(config)
    }
    try:
        yield
    finally:
        for logger, (level, handlers, propagate, disabled) in before.items():
            for handler in logger.handlers:
                if handler not in handlers:
                    handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled


def _touched(config: DictConfig) -> list[logging.Logger]:
    """The loggers that a trial's configuration changes: those it names, and those below them."""
    verbose = config.hydra.verbose
    named = {str(name) for name in (config.hydra.job_logging or {}).get("loggers") or ()}
    if not isinstance(verbose, bool):
        named |= {verbose} if isinstance(verbose, str) else set(verbose)
    below = {
        name
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
        and any(name.startswith(f"{above}.") for above in named)
    }
    return [logging.getLogger(), *map(logging.getLogger, sorted(named | below))]
