"""Images in a .zip or .tar, read in memory: nothing is ever extracted to disk."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from experiments.data.decode import BadImageError
from experiments.data.sources import MAX_FILE_BYTES, EncodedSource, OneFile, is_junk
from experiments.errors import UserError

_MAX_RATIO = 200  # images hardly compress; what shrinks more than this is a bomb
_HARMLESS_BYTES = 2**20

Named = tuple[str, Callable[[], bytes]]


class _Archive(OneFile, EncodedSource):
    def count(self) -> int:
        return len(self._names)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        try:
            self._names = [name for name in self._members() if not is_junk(name)]
        except _BROKEN as error:
            raise UserError(
                f"`data.root` must be an archive that can be read, but {root} gives: {error}"
            ) from error
        if not self._names:
            raise UserError(f"`data.root` must hold images, but the archive {root} is empty")

    def _members(self) -> list[str]:
        """Names of the files, after looking at every entry.

        Raises:
            UserError: an entry is unsafe.
        """
        raise NotImplementedError

    def _refuse_outside(self, name: str, what: str = "the entry") -> None:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise UserError(
                f"an archive must keep to itself, but {what} {name!r} of {self.root} points "
                "outside it; do not use this archive"
            )


class ZipFile(_Archive):
    """A .zip; each member is read on its own."""

    def _members(self) -> list[str]:
        with zipfile.ZipFile(self.root) as archive:
            for info in archive.infolist():
                self._refuse_outside(info.filename)
                self._refuse_bomb(info)
            return [i.filename for i in archive.infolist() if not i.is_dir()]

    def _refuse_bomb(self, info: zipfile.ZipInfo) -> None:
        swollen = info.file_size > max(_HARMLESS_BYTES, _MAX_RATIO * info.compress_size)
        if info.file_size > MAX_FILE_BYTES or swollen:
            raise UserError(
                f"an archive's entries must be images of at most {MAX_FILE_BYTES // 2**20} MiB, "
                f"but {info.filename!r} of {self.root} grows from {info.compress_size} to "
                f"{info.file_size} bytes, a decompression bomb"
            )

    def files(self) -> Iterator[Named]:
        with zipfile.ZipFile(self.root) as archive:
            for info in archive.infolist():
                if not info.is_dir() and not is_junk(info.filename):
                    yield info.filename, _held(archive, info)


class TarFile(_Archive):
    """A .tar, compressed or not; read from front to back."""

    def _members(self) -> list[str]:
        names = []
        total = 0
        with tarfile.open(self.root) as archive:
            for member in archive:
                self._refuse_outside(member.name)
                if member.issym() or member.islnk():
                    self._refuse_outside(member.linkname, f"the link {member.name!r} to")
                total += member.size
                self._refuse_bomb(member, total)
                if member.isfile():
                    names.append(member.name)
        return names

    def _refuse_bomb(self, member: tarfile.TarInfo, total: int) -> None:
        compressed = self.root.stat().st_size
        if member.size > MAX_FILE_BYTES or total > max(
            64 * _HARMLESS_BYTES, _MAX_RATIO * compressed
        ):
            raise UserError(
                f"an archive's entries must be images of at most {MAX_FILE_BYTES // 2**20} MiB, "
                f"but {self.root} of {compressed} bytes grows beyond {total} at {member.name!r}, "
                "a decompression bomb"
            )

    def files(self) -> Iterator[Named]:
        with tarfile.open(self.root) as archive:
            for member in archive:
                if not member.isfile() or is_junk(member.name):
                    continue
                opened = archive.extractfile(member)
                assert opened is not None
                yield member.name, partial(bytes, opened.read())


def open_archive(path: Path) -> EncodedSource:
    """The archive at `path`, by its name.

    Raises:
        UserError: it cannot be read, is empty or has an unsafe entry.
    """
    return ZipFile(path) if path.suffix.lower() == ".zip" else TarFile(path)


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError)


def _held(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    """A reader of bytes that are read now, since a ZipFile is for one thread at a time."""
    try:
        with archive.open(info) as file:
            data = file.read(info.file_size + 1)  # never more than the entry declares
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = str(error)

        def fail() -> bytes:
            raise BadImageError(reason)

        return fail
    return lambda: data
