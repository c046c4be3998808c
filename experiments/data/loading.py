"""Sources and cache put together: `load_cats` and `load_images`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.data import cache as caching
from experiments.data.cache import Cache, Entry
from experiments.data.imageset import ImageSet, Skipped
from experiments.data.parallel import shown
from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.data.sources import Source

FITS = ("crop", "pad", "squash")
SIZES = (8, 1024)
_DECODING = 1  # raised when the same files give other pixels
_SHOWN = 20  # bad files named in a message; all are in `ImageSet.skipped`

_told: set[tuple[str, str]] = set()

log = logging.getLogger(__name__)


def load_cats(
    *,
    count: int = 2000,
    seed: int = 0,
    size: int = 64,
    channels: int = 3,
    cache_dir: str | Path,
    progress: bool = True,
) -> ImageSet:
    """The embedded drawn cats (`experiments.data.cats`), drawn once and then cached.

    Args:
        count: how many; the first ones do not depend on it.
        seed: of the drawing, 0 or more.
        size: side of the square images, pixels.
        channels: 1 (grey) or 3.
        cache_dir: where they are kept.
        progress: whether to show a progress bar.

    Raises:
        UserError: a setting is out of range or the cache cannot be written.
    """
    from experiments.data import cats

    _check_shape(size, channels)
    if count < 1:
        raise UserError(f"`data.count` must be 1 or more, but got {count}")
    if seed < 0:
        raise UserError(f"`data.generator_seed` must be 0 or more, but got {seed}")
    cache = Cache(cache_dir)
    key = _hash(["cats", cats.VERSION, caching.VERSION, count, seed, size, channels])
    entry = cache.get(key)
    if entry is None:
        chunks = cats.draw_cats(count, seed=seed, size=size)
        total = -(-count // cats.CHUNK)
        factors = []
        with cache.writer() as writer:
            for images, drawn in shown(chunks, total, doing="drawing cats", progress=progress):
                factors.append(drawn)
                for image in images if channels == 3 else _grey(images):
                    writer.add(image)
            arrays = {name: np.concatenate([f[name] for f in factors]) for name in factors[0]}
            names = [f"cat {i}" for i in range(count)]
            entry = writer.file(key, meta={"names": names, "skipped": []}, arrays=arrays)
    return _image_set(entry, source="cats", factors=entry.arrays)


def load_images(
    *,
    root: str | Path | None,
    size: int = 64,
    channels: int = 3,
    fit: str = "crop",
    max_bad_fraction: float = 0.05,
    cache_dir: str | Path,
    progress: bool = True,
    workers: int | None = None,
) -> ImageSet:
    """The user's images: a folder, .zip, .tar[.gz|.bz2|.xz], .npy, .npz or .pt.

    Decoded, brought to (channels, size, size) and cached under a hash of their content and of
    these settings. What the file system says of the source (sizes and times of change) decides
    whether its content must be read again; the content decides whether it must be decoded again.

    Args:
        root: the folder or file.
        size: side of the square images, pixels.
        channels: 1 (grey) or 3.
        fit: "crop" (the central square), "pad" (black bars) or "squash" (change the ratio).
        max_bad_fraction: largest share of unusable files, in [0, 1].
        cache_dir: where decoded images are kept.
        progress: whether to show a progress bar.
        workers: threads that decode; None for one a core.

    Raises:
        UserError: the source is missing, empty or unsafe, too many files are bad, a setting is
            out of range, or the cache cannot be written.
    """
    _check_shape(size, channels)
    if fit not in FITS:
        raise UserError(f"`data.fit` must be one of {', '.join(FITS)}, but got {fit!r}")
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"`data.max_bad_fraction` must be in [0, 1], but got {max_bad_fraction}")
    if workers is not None and workers < 1:
        raise UserError(f"`workers` must be 1 or more, but got {workers}")
    from experiments.data.sources import open_source

    source = open_source(root)
    settings = [caching.VERSION, _DECODING, size, channels, fit]
    cache = Cache(cache_dir)
    # Taken before the content is read, so that a change in between is noticed the next time.
    stamp = source.stamp()
    note = _hash([str(source.root), *settings])
    entry = _known(cache, note, stamp.text, source, settings, workers)
    if entry is None:
        total = source.count()
        # Closed at once when an image is refused, and its threads with it.
        with closing(
            source.decoded(size=size, channels=channels, fit=fit, workers=workers)
        ) as decoded:
            images = shown(decoded, total, doing="decoding images", progress=progress)
            entry = _build(cache, images, settings, source, max_bad_fraction)
    if stamp.settled and cache.note(note) != {"stamp": stamp.text, "key": entry.key}:
        cache.set_note(note, {"stamp": stamp.text, "key": entry.key})
    loaded = _image_set(entry, source=str(source.root))
    _judge(loaded.skipped, len(loaded.names), source, max_bad_fraction)
    _tell_skipped(loaded)
    return loaded


def _known(
    cache: Cache, note: str, stamp: str, source: Source, settings: list[Any], workers: int | None
) -> Entry | None:
    """The entry of an earlier run, if the source still has the same content."""
    noted = cache.note(note)
    if noted is None:
        return None
    entry = cache.get(str(noted.get("key")))
    if entry is None or noted.get("stamp") == stamp:
        return entry
    # Touched, or changed? Reading all of it is far quicker than decoding all of it.
    return cache.get(_key(settings, source.hashes(workers)))


def _build(
    cache: Cache,
    decoded: Iterable[tuple[str, NDArray[np.uint8] | str, str]],
    settings: list[Any],
    source: Source,
    max_bad_fraction: float,
) -> Entry:
    names: list[str] = []
    skipped: list[Skipped] = []
    content: list[tuple[str, str]] = []
    with cache.writer() as writer:
        for name, result, digest in decoded:
            content.append((name, digest))
            if isinstance(result, str):
                skipped.append(Skipped(name, result))
            else:
                names.append(name)
                writer.add(result)
        _judge(skipped, len(names), source, max_bad_fraction)
        if not names:
            raise UserError(
                f"`data.root` must hold images, but none of {source.root} can be used:\n"
                f"{_listed(skipped)}"
            )
        meta = {"names": list(_unique(names)), "skipped": [(s.name, s.reason) for s in skipped]}
        return writer.file(_key(settings, content), meta=meta, arrays={})


def _judge(skipped: list[Skipped], good: int, source: Source, max_bad_fraction: float) -> None:
    total = len(skipped) + good
    if total and len(skipped) / total > max_bad_fraction:
        raise UserError(
            f"at most {max_bad_fraction:.4g} of the files may be unusable "
            f"(`data.max_bad_fraction`), but {len(skipped)} of {total} in {source.root} are:\n"
            f"{_listed(skipped)}\nremove or repair them, or raise data.max_bad_fraction"
        )


def _tell_skipped(images: ImageSet) -> None:
    """Say which files are missing from the images: once, also where many trials load them."""
    told = (images.source, images.fingerprint)
    if images.skipped and told not in _told:
        _told.add(told)
        files = len(images.skipped) + len(images.names)
        skipped = _listed(images.skipped)
        log.warning(
            "skipped %d of %d files in %s:\n%s", len(images.skipped), files, told[0], skipped
        )


def _listed(skipped: list[Skipped]) -> str:
    lines = [f"  {s.name}: {s.reason}" for s in skipped[:_SHOWN]]
    if len(skipped) > _SHOWN:
        lines.append(f"  and {len(skipped) - _SHOWN} more")
    return "\n".join(lines)


def _unique(names: Iterable[str]) -> Iterator[str]:
    """An archive may hold a name twice; a name stands for one image."""
    taken: set[str] = set()
    for name in names:
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name} ({n})"
        taken.add(unique)
        yield unique


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


def _check_shape(size: int, channels: int) -> None:
    low, high = SIZES
    if not low <= size <= high:
        raise UserError(f"`data.size` must be in [{low}, {high}], but got {size}")
    if channels not in (1, 3):
        raise UserError(f"`data.channels` must be 1 or 3, but got {channels}")


def _grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of RGB images (N, 3, H, W), (N, 1, H, W), with the weights of ITU-R BT.601."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    luma = np.tensordot(images.astype(np.float32), weights, axes=(1, 0))
    return np.round(luma)[:, None].astype(np.uint8)


def _key(settings: list[Any], content: Iterable[tuple[str, str]]) -> str:
    return _hash(["images", settings, list(content)])


def _hash(parts: list[Any]) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
