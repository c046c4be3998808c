"""Images in a .zip or .tar, read in memory: nothing is ever extracted to disk.

Links whose target lies in the same archive are passed over: the target is there itself.
"""

from __future__ import annotations

import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

from experiments.data.sources.contents import LeftOut
from experiments.data.sources.source import (
    EncodedSource,
    File,
    is_junk,
    read_file,
    unread,
)
from experiments.errors import UserError, printable

MAX_RATIO = 200
"""How far an archive may swell, beyond `HARMLESS_BYTES`: images hardly compress."""

HARMLESS_BYTES = 2**30
_HARMLESS_MEMBERS = 10_000
_LEAST_BYTES = 32  # of a compressed .tar that a file in it takes: an image takes 100 or more
_MOST_HEADER = 2**16  # bytes of what a .tar says of one file
_LONGEST_NAME = 4096  # as file systems have it

_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


class _Archive(EncodedSource):
    """An archive, of which every entry is looked at before any is decoded."""

    def paths(self) -> list[Path]:
        return [self.root]

    def count(self) -> int:
        """How many files it holds.

        Raises:
            UserError: it cannot be read, is empty, or has an unsafe entry.
        """
        return self._count

    def files(self) -> Iterator[File]:
        assert self._count
        return self._members()

    @cached_property
    def _count(self) -> int:
        try:
            count = self._inspect()
        except _BROKEN as error:
            raise UserError(
                f"`data.root` must be an archive that can be read, but {self.root} gives: {error}"
            ) from error
        if not count:
            raise UserError(f"`data.root` must hold images, but the archive {self.root} is empty")
        return count

    @abstractmethod
    def _members(self) -> Iterator[File]:
        """The files, in their order."""

    @abstractmethod
    def _inspect(self) -> int:
        """Refuse unsafe entries and count the files."""

    def _refuse_outside(self, name: str, link: str | None = None) -> None:
        """Refuse an entry, or a link's target as seen from the archive's top, that leads out."""
        path = posixpath.normpath((name if link is None else link).replace("\\", "/"))
        if path.startswith(("/", "../")) or path == ".." or path[1:2] == ":":
            what = f"the entry {name!r}" if link is None else f"the link {name!r} to {link!r}"
            raise UserError(
                f"an archive must keep to itself, but {what} of {self.root} points outside it; "
                "if it is yours, pack its folder anew from inside it, else do not use it"
            )

    def _refuse_swollen(self, total: int) -> None:
        size = self.root.stat().st_size
        if swells(total, size):
            raise UserError(
                f"an archive must not swell more than {MAX_RATIO} times when it is unpacked, but "
                f"{self.root} of {size:,} bytes swells to {total:,} or more, a decompression bomb; "
                "if you trust it, unpack it yourself and give the folder"
            )


class ZipFile(_Archive):
    """A .zip; each member is read on its own."""

    def _inspect(self) -> int:
        with zipfile.ZipFile(self.root) as archive:
            infos = archive.infolist()
            for info in infos:
                self._refuse_outside(info.orig_filename)
                if _is_link(info) and info.file_size < 4096:
                    folder = posixpath.dirname(info.filename)
                    target = archive.read(info).decode("utf-8", "backslashreplace")
                    self._refuse_outside(info.filename, posixpath.join(folder, target))
            self._refuse_swollen(sum(info.file_size for info in infos))
            return sum(_wanted(info) for info in infos)

    def _members(self) -> Iterator[File]:
        with zipfile.ZipFile(self.root) as archive:
            for info in archive.infolist():
                if _wanted(info):
                    name = printable(info.filename)
                    # Read here and not in the threads, which cannot share a ZipFile.
                    content = _content(name, partial(archive.open, info), info.file_size)
                    yield name, partial(_given, content)


class TarFile(_Archive):
    """A .tar, compressed or not; read from front to back."""

    def _inspect(self) -> int:
        count = seen = 0
        most = max(_HARMLESS_MEMBERS, self.root.stat().st_size // _LEAST_BYTES)
        with self._opened() as archive:
            for member in archive.walked():
                self._refuse_outside(member.name)
                if member.issym():
                    target = posixpath.join(posixpath.dirname(member.name), member.linkname)
                    self._refuse_outside(member.name, target)
                elif member.islnk():
                    self._refuse_outside(member.name, member.linkname)
                self._refuse_swollen(archive.offset)
                seen += 1
                if seen > most:
                    raise UserError(
                        f"an archive must have {_LEAST_BYTES} bytes or more a file, but "
                        f"{self.root} has more than {most:,} files in "
                        f"{self.root.stat().st_size:,} bytes; unpack it yourself if you trust it"
                    )
                count += member.isfile() and not is_junk(member.name)
        return count

    def _members(self) -> Iterator[File]:
        with self._opened() as archive:
            for member in archive.walked():
                if member.isfile() and not is_junk(member.name):
                    name = printable(member.name)
                    content = _content(name, partial(archive.opened, member), member.size)
                    yield name, partial(_given, content)

    @contextmanager
    def _opened(self) -> Iterator[_Tar]:
        with self.root.open("rb") as file, _Tar.open(fileobj=file) as archive:
            assert isinstance(archive, _Tar)
            yield archive


class _Tar(tarfile.TarFile):
    """A .tar of which one header is in memory at a time, however long it claims to be."""

    def __init__(self, name: Any, mode: Any, fileobj: IO[bytes], **options: Any) -> None:
        self._bounded = _Bounded(fileobj)
        super().__init__(name, mode, self._bounded, **options)

    def walked(self) -> Iterator[tarfile.TarInfo]:
        """The members, in their order; none is kept."""
        while True:
            # Names and extended attributes are read whole.
            self._bounded.left = _MOST_HEADER
            member = self.next()
            if member is None:
                return
            if max(len(member.name), len(member.linkname)) > _LONGEST_NAME:
                raise tarfile.ReadError(f"a name of more than {_LONGEST_NAME:,} characters")
            yield member
            self.members.clear()  # type: ignore[attr-defined]

    def opened(self, member: tarfile.TarInfo) -> IO[bytes]:
        """A regular file."""
        self._bounded.left = member.size + tarfile.BLOCKSIZE
        opened = self.extractfile(member)
        assert opened is not None
        return opened


class _Bounded:
    """A file of which so many bytes are read, and no more.

    Attributes:
        left: bytes that may be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = _MOST_HEADER

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError("a header that has no end")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_archive(path: Path) -> EncodedSource:
    """The archive at `path`, by its name.

    Raises:
        UserError: it cannot be read, is empty or has an unsafe entry.
    """
    return ZipFile(path) if path.suffix.lower() == ".zip" else TarFile(path)


def swells(total: int, compressed: int) -> bool:
    """Whether `total` bytes out of `compressed` ones are a decompression bomb."""
    return total > max(HARMLESS_BYTES, MAX_RATIO * compressed)


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _wanted(info: zipfile.ZipInfo) -> bool:
    return not (info.is_dir() or _is_link(info) or is_junk(info.filename))


def _content(name: str, opening: Callable[[], IO[bytes]], size: int) -> bytes | LeftOut:
    """What a member holds; never more than the entry declares."""
    try:
        with opening() as file:
            content = read_file(name, file, size)
            if isinstance(content, bytes):
                file.read(1)  # at the end a .zip compares the checksum
            return content
    except _BROKEN as error:
        return unread(name, printable(str(error)) or type(error).__name__)


def _given(content: bytes | LeftOut) -> bytes | LeftOut:
    return content
