"""What a person sees: errors as one message, and a table at the end of a trial."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments import commands
from experiments.errors import UserError
from experiments.grammar import advice
from experiments.home import ensure_home

_FULL = "HYDRA_FULL_ERROR"
_SEVERAL = re.compile(r"Ambiguous value for argument '(.*?)'\n1\. ", re.DOTALL)
"""Hydra's word for several values in a single run, whose remedy suits no value with spaces."""
_UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Print a user's mistake as one message and exit with 1; other errors keep their traceback.

    With HYDRA_FULL_ERROR=1 everything keeps its traceback.
    """
    full = os.environ.get(_FULL) == "1"
    os.environ[_FULL] = "1"  # so that Hydra hands us its errors instead of printing them
    try:
        ensure_home()
        yield
    except Exception as error:
        message = message_of(error)
        if full or message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def message_of(error: Exception) -> str | None:
    """What to say of an error that the user can mend, or None."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and (error.errno in _UNWRITABLE):
        return (
            "the output directory must be one that can be written and has space left, but "
            f"{error.filename or 'it'} gives: {error.strerror}"
        )
    if "hydra" not in sys.modules:  # the service's image does without it
        return None
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, OverrideParseException):
        return advice(error.override)
    several = _SEVERAL.match(str(error))
    if several is not None:
        return advice(several[1])
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__
        detail = f"\n{cause}" if isinstance(cause, OmegaConfBaseException) else ""
        hint = ""
        if "Could not find 'hydra/launcher/" in str(error):
            hint = f"\nLaunchers are packages: {commands.install('joblib')}, [ray] or [slurm]"
        return f"{error}{detail}{hint}"
    return None


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
        note = better if name != "kl" else ""
        table.add_row(name, *cells, ", ".join(part for part in (metric.unit, note) if part))
    console = Console(soft_wrap=True)
    console.print(table)
    width = max(map(len, paths))
    for name, path in paths.items():
        console.print(f"{name:<{width}}  {shown_path(path)}", highlight=False, markup=False)


def print_lines(lines: Iterable[str], directory: Path) -> None:
    """Print lines and where the record is."""
    for line in lines:
        print(line)
    print(f"record  {shown_path(directory)}")


def shown_path(path: Path) -> str:
    """Relative to the working directory where it is below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
