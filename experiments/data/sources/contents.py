"""What a source holds, file by file: images by their content, and what is left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from experiments.data.imageset import Skipped
from experiments.data.sources import kinds


@dataclass(frozen=True)
class Unusable:
    """An image without pixels.

    Attributes:
        reason: why, for a person.
        is_foreign: it may be whole, but its format is not read.
    """

    reason: str
    is_foreign: bool = False


@dataclass(frozen=True)
class Other:
    """A file that is no image.

    Attributes:
        kind: what such files are counted by, see `experiments.data.sources.kinds.kind`.
    """

    kind: str


LeftOut = Unusable | Other


def content_hash(data: bytes) -> str:
    """Hexadecimal; the same for the same bytes, on any machine."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Contents:
    """The files of a source, in their order.

    A file that is no image is only counted: it takes no part in what makes a set of images
    another. Neither does an image in a format that is not read where the same photo lies beside
    it in one that is, as cameras leave them.
    """

    def __init__(self) -> None:
        self._files: list[tuple[str, str | LeftOut]] = []

    def add(self, name: str, hashed: str | LeftOut) -> None:
        """Take in a file: a hash of its content, or why it was not read."""
        self._files.append((name, hashed))

    def images(self) -> list[tuple[str, str]]:
        """Names, with the hash of the content or the reason why it was not read."""
        found = ((name, hashed) for name, hashed in self._told_apart())
        return [
            (name, hashed.reason if isinstance(hashed, Unusable) else hashed)
            for name, hashed in found
            if not isinstance(hashed, Other)
        ]

    def skipped(self, failed: Mapping[str, str]) -> list[Skipped]:
        """Images that cannot be used; `failed` has the reasons of those that were read."""
        reasons = (
            (name, hashed.reason if isinstance(hashed, Unusable) else failed.get(name))
            for name, hashed in self._told_apart()
            if not isinstance(hashed, Other)
        )
        return [Skipped(name, reason) for name, reason in reasons if reason is not None]

    def others(self) -> dict[str, int]:
        """How many files are no images, by kind, the most frequent first."""
        counts = Counter(h.kind for _, h in self._told_apart() if isinstance(h, Other))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def first(self, suffixes: tuple[str, ...]) -> str | None:
        """The first file that is no image with one of these suffixes."""
        found = (n for n, h in self._files if isinstance(h, Other) and n.lower().endswith(suffixes))
        return next(found, None)

    def _told_apart(self) -> Iterator[tuple[str, str | LeftOut]]:
        read = {kinds.stem(name) for name, hashed in self._files if isinstance(hashed, str)}
        for name, hashed in self._files:
            is_twin = isinstance(hashed, Unusable) and hashed.is_foreign
            if is_twin and kinds.stem(name) in read:
                yield name, Other(kinds.kind(name))
            else:
                yield name, hashed
