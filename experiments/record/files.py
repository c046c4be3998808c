"""Files that are written whole or not at all, and the space that they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from experiments.errors import DiskFullError, UserError, is_disk_full
from experiments.record.fence import writing

_SUFFIX = ".part"
_RECORD_BYTES = 16 * 2**20  # pictures, history and logs
_PROBE_BYTES = 2**16


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to, in the same directory; `path` becomes that file when all went well.

    Processes, of several machines too, may replace one file at the same time: the last one stays.

    Args:
        path: of the file to replace; it need not exist, but its directory must.
        durable: wait until the contents are on the disk, so that a crash of the machine cannot
            leave an empty file.

    Raises:
        OSError: the directory is missing, read-only or full.
        Superseded: `path` is of a record that is another process's now; it stays as it is.
    """
    temporary = _beside(path)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        with writing(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def given_file(path: Path, flag: str) -> Path:
    """The file that somebody typed to have written: of a link, what it leads to.

    Raises:
        UserError: there is something else, such as a terminal, which a file would replace.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"`{flag}` must be a file, new or to be replaced, but {path} is none")
    return path.resolve() if path.is_symlink() else path


def create(path: Path, text: str) -> bool:
    """Write a file that nobody has written yet, whole; of several who try, one does.

    Returns:
        Whether this call did; else there is a file, which stays as it is.

    Raises:
        OSError: the directory is missing, read-only or full.
    """
    temporary = _beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # the file system knows no links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        Superseded: it is of a record that is another process's now; it stays.
    """
    with writing(path):
        path.unlink(missing_ok=True)


def remove_unfinished(directory: Path) -> None:
    """Remove what processes that were killed in `replacing` have left in and below a directory."""
    for path in directory.rglob(f".*{_SUFFIX}"):
        remove(path)


def of_full_disk(error: Exception, directory: Path) -> DiskFullError | None:
    """What to say of an error that ended a trial, if its record's disk is at fault."""
    if not is_disk_full(error) and takes_files(directory):
        return None
    return DiskFullError(
        "the output directory must have space left until the trial ends, but "
        f"{directory} takes no more; make room"
    )


def takes_files(directory: Path) -> bool:
    """Whether a small file can be written in a directory, or somebody has removed that."""
    probe = _beside(directory / "probe")
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError:
        return not directory.is_dir()
    finally:
        with suppress(OSError):
            probe.unlink()
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}{_SUFFIX}")


def check_space(directory: Path, network_bytes: int, *, resumable: bool = False) -> None:
    """Refuse a disk that could not take the record and its checkpoints.

    Raises:
        DiskFullError: there is too little space left.
        UserError: there would be too little on the empty disk.
    """
    # The last checkpoint has weights, their average, two moments and the best; once more while
    # it is replaced.
    needed = _RECORD_BYTES + (14 if resumable else 4) * network_bytes
    disk = shutil.disk_usage(directory)
    if disk.free < needed:
        error = DiskFullError if needed < disk.total else UserError
        raise error(
            f"the output directory needs {-(-needed // 2**20)} MiB for this trial, but {directory} "
            f"has {disk.free // 2**20} MiB left; make room, or set hydra.run.dir (of a sweep "
            "hydra.sweep.dir) elsewhere"
        )
