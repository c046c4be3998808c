"""What any source of images can do, and what they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import IO

import numpy as np
from numpy.typing import NDArray

from experiments.data.decoding import depth
from experiments.data.decoding.decode import BadImageError, decode, largest_value, quiet
from experiments.data.imageset import Remark
from experiments.data.parallel import in_order
from experiments.data.sources import kinds
from experiments.data.sources.contents import LeftOut, Other, Unusable, content_hash
from experiments.errors import printable

Hashed = tuple[str, str | LeftOut]
"""Name, and a hash of the content or why it was not read."""

Decoded = tuple[str, NDArray[np.uint8] | LeftOut, str | LeftOut]
"""Name, pixels or why there are none, and what `Hashed` has."""

File = tuple[str, Callable[[], bytes | LeftOut]]
"""Name and reader of a file, which may raise OSError."""

MAX_FILE_BYTES = 256 * 2**20
"""A larger encoded image is not read."""

_SETTLED_NS = 2 * 10**9  # file systems keep times to 2 s or better
_JUNK = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a source.

    Attributes:
        text: changes whenever the content may have.
        settled: whether the last change is so long ago that the next will have another time.
    """

    text: str
    settled: bool


class Source(ABC):
    """Images that can be told apart and decoded.

    Attributes:
        root: the folder or file, absolute.
        white: of images of more than 8 bits, once they are decoded, as
            `decoding.depth.CommonWhite.known` has it; None where there are none.
        remarks: of how the images were made, once they are decoded.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.white: int | list[int] | None = None
        self.remarks: list[Remark] = []

    @abstractmethod
    def paths(self) -> list[Path]:
        """All files that the images come from."""

    @abstractmethod
    def count(self) -> int:
        """How many images there may be."""

    @abstractmethod
    def hashes(self, workers: int | None = None) -> Iterator[Hashed]:
        """Names and content hashes as `decoded` gives them, without decoding."""

    @abstractmethod
    def decoded(
        self, *, size: int, channels: int, fit: str, workers: int | None = None
    ) -> Generator[Decoded, None, None]:
        """Each image, in order, as pixels (channels, size, size) or with why there are none."""

    def stamp(self) -> Stamp:
        """What the file system says of the source now."""
        now = time.time_ns()
        lines, newest = [], 0
        for path in self.paths():
            try:
                s = path.stat()
            except OSError as error:
                lines.append(f"{path} {error.errno}")
                continue
            # A change that keeps size and modification time still moves the time of change.
            lines.append(f"{path} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}")
            newest = max(newest, s.st_mtime_ns, s.st_ctime_ns)
        text = content_hash(repr(lines).encode())
        return Stamp(text, settled=now - newest > _SETTLED_NS)


class EncodedSource(Source):
    """Files that are encoded images: decoded in parallel."""

    @abstractmethod
    def files(self) -> Iterator[File]:
        """All of them, in an order that does not change."""

    def hashes(self, workers: int | None = None) -> Iterator[Hashed]:
        def work(file: File) -> Hashed:
            data = _read(file)
            return file[0], content_hash(data) if isinstance(data, bytes) else data

        return in_order(work, self.files(), workers)

    def decoded(
        self, *, size: int, channels: int, fit: str, workers: int | None = None
    ) -> Generator[Decoded, None, None]:
        ended = Event()  # a search for white may take long, and nobody is to wait for it
        common_white = depth.CommonWhite(
            lambda bits: in_order(
                partial(_largest_value, bits=bits),
                takewhile(lambda _: not ended.is_set(), self.files()),
                workers,
            ),
        )

        def work(file: File) -> Decoded:
            name, data = file[0], _read(file)
            if not isinstance(data, bytes):
                return name, data, data
            try:
                pixels = decode(
                    data, size=size, channels=channels, fit=fit,
                    white=common_white, see=partial(common_white.see, name),
                )  # fmt: skip
            except BadImageError as error:
                return name, Unusable(printable(str(error))), content_hash(data)
            return name, pixels, content_hash(data)

        with quiet():
            yield from in_order(work, self.files(), workers, closing=ended.set)
        self.white, self.remarks = common_white.known, common_white.remarks()


def is_junk(name: str) -> bool:
    """Whether a file's path names something that systems leave behind, such as .DS_Store."""
    parts = name.lower().split("/")
    return any(
        part in _JUNK or (part.startswith(".") and part not in (".", "..")) for part in parts
    )


def read_file(name: str, file: IO[bytes], size: int) -> bytes | LeftOut:
    """The content of an encoded image of `size` bytes; of what is none only the beginning is read.

    What a file is, its content decides; where that says nothing, its name.
    """
    head = file.read(min(size, kinds.HEAD))
    if not kinds.is_read(name, head):
        foreign = kinds.foreign_format(name, head)
        if foreign is not None:
            return Unusable(f"{foreign}, which is not read; convert it to JPEG or PNG", True)
        if not kinds.is_named_image(name):
            return Other(kinds.kind(name))
    if size > MAX_FILE_BYTES:
        return Unusable(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
    return head + file.read(size - len(head))


def unread(name: str, reason: str) -> LeftOut:
    """What to make of a file that cannot be read: only its name can tell."""
    return Unusable(reason) if kinds.may_be_image(name) else Other(kinds.kind(name))


def _read(file: File) -> bytes | LeftOut:
    name, read = file
    try:
        return read()
    except OSError as error:
        return unread(name, error.strerror or str(error))


def _largest_value(file: File, bits: int) -> int:
    data = _read(file)
    return largest_value(data, bits) if isinstance(data, bytes) else 0
