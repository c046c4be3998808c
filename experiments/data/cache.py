"""Decoded images on disk: written whole or not at all, read through a memory map."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from experiments.data.sources.contents import content_hash
from experiments.errors import UserError
from experiments.record.files import replacing

VERSION = 2
"""Of the layout on disk; part of every key."""

_PIXELS = "images.u8"
_DIGESTS = "digests.npy"
_ARRAYS = "arrays.npz"
_INDEX = "index.json"
_TEMPORARY = ".building-"
_ABANDONED_SECONDS = 24 * 3600  # a build that takes longer has died
_CHECKED_BYTES = 2**26  # of the pixels, spread evenly; all of them up to 64 MiB

# What this process has found whole: a warm worker looks at each entry once.
_found_whole: set[tuple[int, int, int]] = set()


@dataclass(frozen=True)
class Entry:
    """What the cache keeps under a key.

    Attributes:
        key: of the content and the settings.
        images: (N, C, H, W), uint8, memory-mapped and read-only.
        digests: (N,), uint64, a hash of each image's pixels.
        arrays: named arrays that were stored beside the images.
        meta: what else was stored, as JSON keeps it.
    """

    key: str
    images: NDArray[np.uint8]
    digests: NDArray[np.uint64]
    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


class Cache:
    """Entries in a directory, one folder each, which may be deleted at any time.

    Entries are moved into place whole, so a reader never sees half of one, and of two processes
    that build the same one the later yields to the earlier.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).expanduser().absolute()

    def get(self, key: str) -> Entry | None:
        """The entry, or None if there is none or it is damaged: then it must be built again."""
        try:
            return _read(self.directory / key, key)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """A collector of one entry; what it has not filed when the block ends is deleted.

        Raises:
            UserError: the directory cannot be written.
        """
        with self.explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            temporary = self.directory / f"{_TEMPORARY}{uuid4().hex}"
            temporary.mkdir()
        writer = Writer(self, temporary)
        try:
            yield writer
        finally:
            writer.close()
            shutil.rmtree(temporary, ignore_errors=True)

    def note(self, name: str) -> dict[str, Any] | None:
        """What was last noted under the name."""
        try:
            noted = json.loads(self._note_path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted if isinstance(noted, dict) else None

    def set_note(self, name: str, noted: dict[str, Any]) -> None:
        """Note something small under a name.

        Raises:
            UserError: the directory cannot be written.
        """
        path = self._note_path(name)
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(noted), encoding="utf-8")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the file system into one that names the directory and the remedy."""
        try:
            yield
        except OSError as error:
            raise UserError(
                "`data.cache_dir` must be a directory that can be written and has room, but "
                f"{self.directory} gives: {error.strerror or error}; set data.cache_dir elsewhere"
            ) from error

    def _note_path(self, name: str) -> Path:
        return self.directory / "notes" / name

    def _sweep(self) -> None:
        """Delete what killed builds left behind."""
        for left in self.directory.glob(f"{_TEMPORARY}*"):
            try:
                abandoned = time.time() - left.stat().st_mtime > _ABANDONED_SECONDS
            except FileNotFoundError:  # its builder has just finished
                continue
            if abandoned:
                shutil.rmtree(left, ignore_errors=True)


class Writer:
    """Collects one entry; made by `Cache.writer`."""

    def __init__(self, cache: Cache, directory: Path) -> None:
        self._cache, self._directory = cache, directory
        self._digests: list[int] = []
        self._shape: tuple[int, ...] = ()
        with cache.explained():
            self._file = (directory / _PIXELS).open("wb")

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append an image (C, H, W), of the same shape each time."""
        assert image.dtype == np.uint8
        assert self._shape in ((), image.shape)
        self._shape = image.shape
        pixels = image.tobytes()
        with self._cache.explained():
            self._file.write(pixels)
        self._digests.append(_digest(pixels))

    def file(self, key: str, *, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Entry:
        """Move the entry into its place and open it.

        Raises:
            UserError: the directory cannot be written.
        """
        with self._cache.explained():
            self._file.close()
            np.save(self._directory / _DIGESTS, np.array(self._digests, dtype=np.uint64))
            np.savez(self._directory / _ARRAYS, **arrays)  # type: ignore[arg-type]
            body = json.dumps(
                {
                    "shape": [len(self._digests), *self._shape],
                    "hashes": {
                        n: content_hash((self._directory / n).read_bytes())
                        for n in (_DIGESTS, _ARRAYS)
                    },
                    "meta": meta,
                }
            )
            index = f"{content_hash(body.encode())}\n{body}"
            (self._directory / _INDEX).write_text(index, encoding="utf-8")
            return self._move(key)

    def close(self) -> None:
        """Close the file of pixels; nothing if `file` has done so."""
        try:
            self._file.close()
        except OSError:  # the disk is full, which `add` or `file` has said
            return

    def _move(self, key: str) -> Entry:
        final = self._cache.directory / key
        # Opened before it is moved, since afterwards another process may replace it.
        entry = _read(self._directory, key)
        for last in (False, True):
            try:
                self._directory.rename(final)
                return entry
            except OSError:
                earlier = self._cache.get(key)
                if earlier is not None:
                    return earlier
                if last or not final.exists():
                    raise
            # Something damaged stands in the way.
            damaged = self._cache.directory / f"{_TEMPORARY}{uuid4().hex}"
            with suppress(FileNotFoundError):
                final.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        raise AssertionError("unreachable")


def _read(directory: Path, key: str) -> Entry:
    """Open an entry.

    Raises:
        OSError, ValueError, KeyError, TypeError, EOFError: there is none or it is damaged.
    """
    checksum, _, body = (directory / _INDEX).read_text(encoding="utf-8").partition("\n")
    if content_hash(body.encode()) != checksum:
        raise ValueError("damaged index")
    index = json.loads(body)
    for name, expected in index["hashes"].items():
        if content_hash((directory / name).read_bytes()) != expected:
            raise ValueError(f"damaged {name}")
    digests = np.load(directory / _DIGESTS, allow_pickle=False)
    path, shape = directory / _PIXELS, tuple(index["shape"])
    status = path.stat()
    if status.st_size != np.prod(shape):
        raise ValueError("cut short")
    images = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    seen = (status.st_dev, status.st_ino, status.st_mtime_ns)
    if seen not in _found_whole:
        step = max(1, status.st_size // _CHECKED_BYTES)
        if any(_digest(images[i].tobytes()) != digests[i] for i in range(0, len(images), step)):
            raise ValueError("damaged pixels")
        _found_whole.add(seen)
    with np.load(directory / _ARRAYS, allow_pickle=False) as stored:
        arrays = dict(stored)
    return Entry(key, images, digests, arrays, index["meta"])


def _digest(pixels: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(pixels, digest_size=8).digest(), "little")
