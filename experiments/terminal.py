"""What a person sees: errors as one message, and a table at the end of a trial."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import PASSING, UserError, exit_status, printable
from experiments.machine.home import ensure_home
from experiments.machine.loading import leave_quickly
from experiments.machine.signals import INTERRUPTED, interruptible

FULL_ERROR = "HYDRA_FULL_ERROR"
_UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.ELOOP,
    errno.EFBIG,
)
_LAYOUT = "\n\t"  # of messages of several lines
_LONGEST = 20_000  # characters of a message: a name in it may be somebody else's
_GONE = (errno.EPIPE, errno.EIO)  # of a pipe (`| head`) and of a terminal that was closed


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Print a user's mistake as one message and exit with its status; others keep their traceback.

    With HYDRA_FULL_ERROR=1 everything keeps its traceback. A reader of the output may go away at
    any moment, as `head` does: the command does its work to the end, in silence, and exits as if
    all had been read. Also a decorator.
    """
    _outlive_readers()
    logging.setLogRecordFactory(_Record)
    logging.raiseExceptions = False  # a log that is on a full disk loses its lines, no more
    leave_quickly()
    before = os.environ.get(FULL_ERROR)
    full = before == "1"
    os.environ[FULL_ERROR] = "1"  # so that Hydra hands us its errors instead of printing them
    try:
        interruptible()
        ensure_home()
        yield
    except SystemExit as ended:
        if not ended.code:
            _refuse_lost_output()
        raise
    except KeyboardInterrupt:
        if full:
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = message_of(error)
        if full or message is None:
            raise
        print(f"error: {_shown(message)}", file=sys.stderr)
        sys.exit(exit_status(error))
    else:
        _refuse_lost_output()
    finally:
        if before is None:
            os.environ.pop(FULL_ERROR, None)
        else:
            os.environ[FULL_ERROR] = before


def _shown(message: str) -> str:
    shown = printable(message[:_LONGEST], _LAYOUT)
    return shown if len(message) <= _LONGEST else f"{shown} ..."


class _Record(logging.LogRecord):
    """A message that writes to a terminal no more than text, whatever the names in it hold."""

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        return _shown(super().getMessage())


class _Stream(io.FileIO):
    """Standard output or error; once it cannot be written, what follows is dropped.

    Attributes:
        failure: why it cannot be written, where that is not its reader's choice.
    """

    failure: OSError | None = None

    def write(self, data: bytes | memoryview) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _GONE:
                self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def _outlive_readers() -> None:
    """Let nothing that prints fail since nobody reads, neither now nor when Python ends."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us (`>&-`)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            raw = _Stream(stream.fileno(), "w", closefd=False)
            lasting = io.TextIOWrapper(
                raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[type-var]
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lasting)


def _refuse_lost_output() -> None:
    """Exit as on a full disk if what was printed is lost."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    sys.stdout.flush()
    raw = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    if isinstance(raw, _Stream) and raw.failure is not None:
        print(
            "error: what is printed must have a place with space left, but standard output "
            f"gives: {raw.failure.strerror}",
            file=sys.stderr,
        )
        sys.exit(PASSING)


def message_of(error: Exception) -> str | None:
    """What to say of an error that the user can mend, or None."""
    if isinstance(error, UserError):
        return str(error)
    # Python's logging wraps what opening a log file raises.
    reason = error.__cause__ if isinstance(error, ValueError) else error
    if isinstance(reason, OSError) and (reason.errno in _UNWRITABLE or _is_of_mkdir(reason)):
        return (
            "the output directory must be one that can be written and has space left, but "
            f"{reason.filename or 'it'} gives: {reason.strerror}"
        )
    if "hydra" not in sys.modules:  # the service's image does without it
        return None
    from experiments.cli.refusals import told

    return told(error)


def _is_of_mkdir(error: OSError) -> bool:
    """Whether a directory could not be made, for which each file system has its own number."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].name in ("mkdir", "makedirs")


def print_result(
    title: str, splits: Mapping[str, Mapping[str, float]], paths: Mapping[str, Path]
) -> None:
    """Print a table of metrics, a column for each split, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    from experiments.metrics import METRICS

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("metric")
    for split in splits:
        table.add_column(split, justify="right")
    table.add_column("")
    shown = [name for name in METRICS if any(name in values for values in splits.values())]
    for name in shown:
        metric = METRICS[name]
        cells = [f"{v[name]:.4g}" if name in v else "" for v in splits.values()]
        better = {"maximize": "higher is better", "minimize": "lower is better"}[metric.direction]
        note = "" if metric.is_descriptive else better
        table.add_row(name, *cells, ", ".join(part for part in (metric.unit, note) if part))
    console = Console(soft_wrap=True)
    console.print(table)
    width = max(map(len, paths))
    for name, path in paths.items():
        console.print(f"{name:<{width}}  {shown_path(path)}", highlight=False, markup=False)


def print_lines(lines: Iterable[str], directory: Path) -> None:
    """Print lines and where the record is."""
    for line in [*lines, f"record  {shown_path(directory)}"]:
        print(printable(line))


def shown_path(path: Path) -> str:
    """Relative to the working directory where it is below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
