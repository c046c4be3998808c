"""Images in a folder and in the folders below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from experiments.data.sources.contents import LeftOut
from experiments.data.sources.source import (
    EncodedSource,
    File,
    is_junk,
    read_file,
    unread,
)
from experiments.errors import UserError, printable


class Folder(EncodedSource):
    """All files below a folder, links followed; hidden ones and system files do not count."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._unreadable: list[tuple[str, str]] = []
        self._paths = sorted(self._walk())
        if not self._paths and not self._unreadable:
            raise UserError(
                f"`data.root` must hold images, but the folder {root} is empty (hidden files do "
                "not count)"
            )

    def paths(self) -> list[Path]:
        return self._paths

    def count(self) -> int:
        return len(self._paths) + len(self._unreadable)

    def files(self) -> Iterator[File]:
        for path in self._paths:
            yield self._name(path), partial(_read, path, self._name(path))
        for name, reason in self._unreadable:
            yield name, partial(unread, name, reason)

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix())

    def _walk(self) -> Iterator[Path]:
        def note(error: OSError) -> None:
            folder = Path(error.filename)
            if folder == self.root:
                raise UserError(f"`data.root` must be readable, but {folder}: {error.strerror}")
            self._unreadable.append((f"{self._name(folder)}/", error.strerror or str(error)))

        seen = set()
        for folder, subfolders, files in os.walk(self.root, followlinks=True, onerror=note):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # links may lead in a circle
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not is_junk(name))
            yield from (Path(folder, name) for name in files if not is_junk(name))


def _read(path: Path, name: str) -> bytes | LeftOut:
    if not path.is_file():
        return unread(name, "a link to nothing" if path.is_symlink() else "not a regular file")
    with path.open("rb") as file:
        return read_file(name, file, os.fstat(file.fileno()).st_size)
