"""Where the user's images lie: a folder, an archive or an array."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments.data.decode import BadImageError, decode, quiet
from experiments.errors import UserError

T = TypeVar("T")

Result = NDArray[np.uint8] | str
"""Decoded pixels, or the reason why there are none."""

MAX_FILE_BYTES = 256 * 2**20
"""A larger encoded image is refused without reading it."""

_JUNK = {"Thumbs.db", "desktop.ini", "__MACOSX"}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ARRAYS = (".npy", ".npz", ".pt")


class Source(ABC):
    """Images that can be told apart and decoded.

    Attributes:
        root: the folder or file, absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def stamp(self) -> str:
        """What the file system says of it; changes whenever the content may have."""

    @abstractmethod
    def content(self) -> str:
        """A hash of all names and bytes."""

    @abstractmethod
    def decoded(
        self, *, size: int, channels: int, fit: str, progress: bool
    ) -> Iterator[tuple[str, Result]]:
        """Each image's name with its pixels (channels, size, size) or why it has none."""


class EncodedSource(Source):
    """Files that are encoded images: decoded in parallel, in order."""

    @abstractmethod
    def files(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Name and reader of each file; the reader raises `BadImageError` or OSError."""

    @abstractmethod
    def count(self) -> int:
        """How many files there are."""

    def decoded(
        self, *, size: int, channels: int, fit: str, progress: bool
    ) -> Iterator[tuple[str, Result]]:
        def work(read: Callable[[], bytes]) -> Result:
            try:
                return decode(read(), size=size, channels=channels, fit=fit)
            except BadImageError as error:
                return str(error)
            except OSError as error:
                return error.strerror or str(error)

        with quiet():
            results = _in_parallel(work, self.files())
            yield from _shown(results, self.count(), progress)


class Folder(EncodedSource):
    """All files below a folder; hidden ones and system files do not count."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._files = sorted(_walk(root))
        if not self._files:
            raise UserError(f"`data.root` must hold images, but the folder {root} is empty")

    def stamp(self) -> str:
        return repr([(self._name(path), _file_stamp(path)) for path in self._files])

    def content(self) -> str:
        def digest(read: Callable[[], bytes]) -> str:
            try:
                return hashlib.sha256(read()).hexdigest()
            except (OSError, BadImageError) as error:
                return f"unreadable: {type(error).__name__}"

        return repr(list(_in_parallel(digest, self.files())))

    def count(self) -> int:
        return len(self._files)

    def files(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        for path in self._files:
            yield self._name(path), _reader(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class OneFile(Source):
    """A source that is a single file."""

    def stamp(self) -> str:
        return _file_stamp(self.root)

    def content(self) -> str:
        with self.root.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_source(root: str | Path | None) -> Source:
    """The source at `root`, by what it is and what its name ends with.

    Raises:
        UserError: it is missing, empty, unreadable or of an unknown kind.
    """
    if root is None or str(root) == "":
        raise UserError(
            "`data=images` needs `data.root`: a folder, .zip, .tar, .npy, .npz or .pt, "
            "for example data.root=photos"
        )
    path = Path(root).expanduser().absolute()
    kinds = f"a folder or a file ending in {', '.join((*_ARCHIVES, *_ARRAYS))}"
    if not path.exists():
        raise UserError(f"`data.root` must be {kinds}, but {path} does not exist")
    if not os.access(path, os.R_OK):
        raise UserError(f"`data.root` must be readable, but {path} is not")
    if path.is_dir():
        return Folder(path)
    name = path.name.lower()
    if name.endswith(_ARCHIVES):
        from experiments.data.archives import open_archive

        return open_archive(path)
    if name.endswith(_ARRAYS):
        from experiments.data.arrays import ArrayFile

        return ArrayFile(path)
    raise UserError(f"`data.root` must be {kinds}, but got {path}")


def is_junk(name: str) -> bool:
    """Whether a file's path names something that systems leave behind, such as .DS_Store."""
    return any(part in _JUNK or part.startswith(".") for part in name.split("/"))


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(f"`data.root` must be readable, but {error.filename}: {error.strerror}")

    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:  # links may lead in a circle
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not is_junk(name)]
        yield from (Path(folder, name) for name in files if not is_junk(name))


def _reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        if not path.is_file():
            raise BadImageError("a link to nothing" if path.is_symlink() else "not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadImageError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
        return path.read_bytes()

    return read


def _file_stamp(path: Path) -> str:
    # A change that keeps size and modification time still moves the inode's change time.
    try:
        status = path.stat()
    except OSError as error:
        return f"unreadable: {error.errno}"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _in_parallel(
    work: Callable[[Callable[[], bytes]], T],
    files: Iterable[tuple[str, Callable[[], bytes]]],
) -> Iterator[tuple[str, T]]:
    """Results in the order of the files, with only a few of them in memory.

    Threads do, since Pillow and hashlib let go of the interpreter while they work.
    """
    workers = os.cpu_count() or 1
    waiting: deque[tuple[str, Future[T]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for name, read in files:
            waiting.append((name, pool.submit(work, read)))
            if len(waiting) >= 8 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _shown(results: Iterator[T], count: int, progress: bool) -> Iterator[T]:
    if not progress:
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"decoding {count} images")
        yield from results
        return
    yield from track(results, "decoding images", total=count, console=console, transient=True)
