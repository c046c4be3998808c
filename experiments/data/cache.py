"""Decoded images on disk: written whole or not at all, read through a memory map."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.errors import UserError

_PIXELS = "images.u8"
_DIGESTS = "digests.npy"
_ARRAYS = "arrays.npz"
_INDEX = "index.json"


@dataclass(frozen=True)
class Entry:
    """What the cache keeps under a key.

    Attributes:
        key: of the content and the settings.
        images: (N, C, H, W), uint8, memory-mapped and read-only.
        digests: (N,), uint64, a hash of each image's pixels.
        meta: whatever was stored beside them.
    """

    key: str
    directory: Path
    images: NDArray[np.uint8]
    digests: NDArray[np.uint64]
    meta: dict[str, Any]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The named arrays that were stored beside the images."""
        with np.load(self.directory / _ARRAYS, allow_pickle=False) as stored:
            return dict(stored)


class Writer:
    """Collects one entry; `Cache.writer` makes and files it."""

    def __init__(self, directory: Path) -> None:
        self.meta: dict[str, Any] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        self._directory = directory
        self._digests: list[int] = []
        self._shape: tuple[int, ...] | None = None
        self._file = (directory / _PIXELS).open("wb")

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append an image (C, H, W)."""
        assert image.dtype == np.uint8
        assert self._shape in (None, image.shape)
        self._shape = image.shape
        pixels = image.tobytes()
        self._file.write(pixels)
        digest = hashlib.blake2b(pixels, digest_size=8).digest()
        self._digests.append(int.from_bytes(digest, "little"))

    def close(self) -> None:
        """Write what goes beside the images; the index comes last."""
        self.abandon()
        np.save(self._directory / _DIGESTS, np.array(self._digests, dtype=np.uint64))
        np.savez(self._directory / _ARRAYS, **self.arrays)  # type: ignore[arg-type]
        shape = [len(self._digests), *(self._shape or ())]
        index = json.dumps({"shape": shape, "meta": self.meta})
        (self._directory / _INDEX).write_text(index, encoding="utf-8")

    def abandon(self) -> None:
        """Close the file of pixels."""
        self._file.close()


class Cache:
    """Entries in a directory, one folder each.

    Entries are moved into place whole, so a reader never sees half of one, and of two processes
    that write the same one the later yields to the earlier.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).expanduser().absolute()

    def get(self, key: str) -> Entry | None:
        """The entry, or None if there is none or a file of it is missing or cut short."""
        directory = self.directory / key
        try:
            index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
            shape = tuple(index["shape"])
            digests = np.load(directory / _DIGESTS, allow_pickle=False)
            if (directory / _PIXELS).stat().st_size != np.prod(shape) or len(digests) != shape[0]:
                raise ValueError("cut short")
            images = np.memmap(directory / _PIXELS, dtype=np.uint8, mode="r", shape=shape)
            if not (directory / _ARRAYS).is_file():
                raise FileNotFoundError(_ARRAYS)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(directory, ignore_errors=True)
            return None
        return Entry(key, directory, images, digests, index["meta"])

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        """Collect an entry and file it under the key when the block ends without an error.

        Raises:
            UserError: the directory cannot be written.
        """
        with self._explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.directory))
        try:
            with self._explained():
                writer = Writer(temporary)
                try:
                    yield writer
                    writer.close()
                finally:
                    writer.abandon()
                self._file(temporary, key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def alias(self, name: str) -> str | None:
        """The key that was last stored under the name."""
        try:
            return (self.directory / "aliases" / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def set_alias(self, name: str, key: str) -> None:
        """Store the key under the name."""
        with self._explained():
            path = self.directory / "aliases" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{name}.{os.getpid()}")
            temporary.write_text(key, encoding="utf-8")
            temporary.replace(path)

    def _file(self, temporary: Path, key: str) -> None:
        if self.get(key) is not None:
            return
        # A folder that `get` does not take is a wreck; it must not stand in the way.
        shutil.rmtree(self.directory / key, ignore_errors=True)
        try:
            temporary.rename(self.directory / key)
        except OSError:
            if self.get(key) is None:
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"`data.cache_dir` must be a directory that can be written, but {self.directory} "
                f"gives: {error.strerror or error}; set VAESWEEP_CACHE or data.cache_dir elsewhere"
            ) from error
