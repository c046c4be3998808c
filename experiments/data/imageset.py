"""A set of images of one shape, from whatever source, through the cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.cache import Cache, Entry
from experiments.errors import UserError

FITS = ("crop", "pad", "squash")
_CACHE_VERSION = 1
_SHOWN = 10  # bad files named in a message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """A file that is not among the images."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Images of one shape and where each came from.

    Attributes:
        images: (N, C, H, W), uint8, memory-mapped and read-only.
        names: N names, unique within the source.
        digests: (N,), uint64, hashes of the pixels; equal for exact duplicates.
        fingerprint: of the content and the settings, hexadecimal.
        source: what the user named.
        skipped: files that could not be read, with the reason.
        factors: for drawn images, what each was drawn from, (N, ...).
    """

    images: NDArray[np.uint8]
    names: list[str]
    digests: NDArray[np.uint64]
    fingerprint: str
    source: str
    skipped: list[Skipped] = field(default_factory=list)
    factors: dict[str, NDArray[np.float32]] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def load_cats(
    *, cache_dir: Path, count: int = 2000, seed: int = 0, size: int = 64, channels: int = 3
) -> ImageSet:
    """The embedded drawn cats (`experiments.data.cats`), drawn once and then cached.

    Raises:
        UserError: a setting is out of range or the cache cannot be written.
    """
    from experiments.data import cats

    _check(size, channels)
    if count < 1:
        raise UserError(f"`data.count` must be 1 or more, but got {count}")
    settings = ["cats", cats.VERSION, _CACHE_VERSION, count, seed, size, channels]
    cache = Cache(cache_dir)
    key = _hash(settings)
    entry = cache.get(key)
    if entry is None:
        images, factors = cats.draw_cats(count, seed=seed, size=size)
        if channels == 1:
            images = _grey(images)
        with cache.writer(key) as writer:
            for image in images:
                writer.add(image)
            writer.arrays = dict(factors)
            writer.meta = {"names": [f"cat {i}" for i in range(count)], "skipped": []}
        entry = _written(cache, key)
    return _image_set(entry, source="cats", factors=entry.arrays())


def load_images(
    *,
    root: str | Path | None,
    cache_dir: Path,
    size: int = 64,
    channels: int = 3,
    fit: str = "crop",
    max_bad_fraction: float = 0.05,
    progress: bool = True,
) -> ImageSet:
    """The user's images: a folder, .zip, .tar[.gz|.bz2|.xz], .npy, .npz or .pt.

    Decoded, brought to (channels, size, size) and cached; the cache is found again as long as
    the source has not changed.

    Args:
        root: the folder or file.
        cache_dir: where decoded images are kept.
        size: side of the square images, pixels.
        channels: 1 or 3.
        fit: "crop" (the central square), "pad" (black bars) or "squash" (change the ratio).
        max_bad_fraction: largest share of unreadable files, in [0, 1].
        progress: whether to show a progress bar.

    Raises:
        UserError: the source is missing, empty or unsafe, too many files are bad, a setting is
            out of range, or the cache cannot be written.
    """
    from experiments.data import sources

    _check(size, channels)
    if fit not in FITS:
        raise UserError(f"`data.fit` must be one of {', '.join(FITS)}, but got {fit!r}")
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"`data.max_bad_fraction` must be in [0, 1], but got {max_bad_fraction}")
    source = sources.open_source(root)
    settings = [_CACHE_VERSION, size, channels, fit]
    cache = Cache(cache_dir)
    # What the file system says is quick to read and tells whether to look at the content.
    seen = _hash(["seen", str(source.root), source.stamp(), *settings])
    key = cache.alias(seen)
    entry = cache.get(key) if key else None
    if key is None or entry is None:
        key = _hash(["images", source.content(), *settings])
        entry = cache.get(key)
        if entry is None:
            decoded = source.decoded(size=size, channels=channels, fit=fit, progress=progress)
            _write(cache, key, decoded, str(source.root), max_bad_fraction)
            entry = _written(cache, key)
        cache.set_alias(seen, key)
    images = _image_set(entry, source=str(source.root))
    _judge_bad(images.skipped, len(images.names), images.source, max_bad_fraction)
    if images.skipped:
        log.warning(
            "skipped %d of %d files in %s:\n%s",
            len(images.skipped),
            len(images.skipped) + len(images.names),
            source.root,
            _listed(images.skipped),
        )
    return images


def _write(
    cache: Cache,
    key: str,
    decoded: Iterable[tuple[str, NDArray[np.uint8] | str]],
    root: str,
    max_bad_fraction: float,
) -> None:
    names: list[str] = []
    skipped: list[Skipped] = []
    with cache.writer(key) as writer:
        for name, result in _without_clashes(decoded):
            if isinstance(result, str):
                skipped.append(Skipped(name, result))
            else:
                names.append(name)
                writer.add(result)
        _judge_bad(skipped, len(names), root, max_bad_fraction)
        if not names:
            raise UserError(f"`data.root` must hold images, but {root} has none")
        writer.meta = {"names": names, "skipped": [(s.name, s.reason) for s in skipped]}


def _without_clashes(
    decoded: Iterable[tuple[str, NDArray[np.uint8] | str]],
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Archives may hold a name twice; a name stands for one image."""
    seen: dict[str, int] = {}
    for name, result in decoded:
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), result


def _judge_bad(skipped: list[Skipped], good: int, root: str, max_bad_fraction: float) -> None:
    total = len(skipped) + good
    if total and len(skipped) / total > max_bad_fraction:
        raise UserError(
            f"at most {max_bad_fraction:.0%} of the files may be unreadable "
            f"(`data.max_bad_fraction`), but {len(skipped)} of {total} in {root} are:\n"
            f"{_listed(skipped)}\nremove or repair them, or raise data.max_bad_fraction"
        )


def _listed(skipped: list[Skipped]) -> str:
    lines = [f"  {s.name}: {s.reason}" for s in skipped[:_SHOWN]]
    if len(skipped) > _SHOWN:
        lines.append(f"  and {len(skipped) - _SHOWN} more")
    return "\n".join(lines)


def _image_set(
    entry: Entry, *, source: str, factors: dict[str, NDArray[np.float32]] | None = None
) -> ImageSet:
    return ImageSet(
        images=entry.images,
        names=entry.meta["names"],
        digests=entry.digests,
        fingerprint=entry.key,
        source=source,
        skipped=[Skipped(*pair) for pair in entry.meta["skipped"]],
        factors=factors,
    )


def _written(cache: Cache, key: str) -> Entry:
    entry = cache.get(key)
    if entry is None:
        raise UserError(f"the cache in {cache.directory} lost what was just written; try again")
    return entry


def _check(size: int, channels: int) -> None:
    if not 8 <= size <= 1024:
        raise UserError(f"`data.size` must be in [8, 1024], but got {size}")
    if channels not in (1, 3):
        raise UserError(f"`data.channels` must be 1 or 3, but got {channels}")


def _grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of RGB images (N, 3, H, W) as ITU-R BT.601 weighs it, which is Pillow's, too."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    luma = np.tensordot(images.astype(np.float32), weights, axes=(1, 0))
    return np.round(luma)[:, None].astype(np.uint8)


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
