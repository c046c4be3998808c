"""Sources and cache put together: `load_cats` and `load_images`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.config import FITS
from experiments.data import cache as caching
from experiments.data.cache import Cache, Entry
from experiments.data.imageset import ImageSet, Remark, Skipped
from experiments.data.parallel import shown
from experiments.data.sources.contents import Contents, Unusable, content_hash
from experiments.data.telling import judge, no_images, tell
from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.data.sources.source import Decoded, Source

SIZES = (8, 1024)
_DECODING = 2  # raised when the same files give other pixels
_NOTED = "whites"  # changed when a note says more


def load_cats(
    *,
    count: int = 2000,
    generator_seed: int = 0,
    size: int = 64,
    channels: int = 3,
    cache_dir: str | Path,
    progress: bool = True,
) -> ImageSet:
    """The embedded drawn cats (`experiments.data.cats`), drawn once and then cached.

    Args:
        count: how many; the first ones do not depend on it.
        generator_seed: of the drawing, 0 or more.
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
    if generator_seed < 0:
        raise UserError(f"`data.generator_seed` must be 0 or more, but got {generator_seed}")
    cache = Cache(cache_dir)
    key = _key_of(["cats", cats.VERSION, caching.VERSION, count, generator_seed, size, channels])
    entry = cache.get(key)
    if entry is None:
        chunks = cats.draw_cats(count, seed=generator_seed, size=size)
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
        max_bad_fraction: largest share of images that cannot be used, in [0, 1]; files that are
            no images do not count.
        cache_dir: where decoded images are kept.
        progress: whether to show a progress bar.
        workers: threads that decode; None for one a core.

    Raises:
        UserError: the source is missing, empty or unsafe, too many images are bad, a setting is
            out of range, or the cache cannot be written.
    """
    _check_shape(size, channels)
    if fit not in FITS:
        raise UserError(f"`data.fit` must be one of {', '.join(FITS)}, but got {fit!r}")
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"`data.max_bad_fraction` must be in [0, 1], but got {max_bad_fraction}")
    if workers is not None and workers < 1:
        raise UserError(f"`workers` must be 1 or more, but got {workers}")
    from experiments.data.sources.opening import open_source

    source = open_source(root)
    settings = [caching.VERSION, _DECODING, size, channels, fit]
    cache = Cache(cache_dir)
    # Taken before the content is read, so that a change in between is noticed the next time.
    stamp = source.stamp()
    note = _key_of([str(source.root), *settings, _NOTED])
    entry, others = _known(cache, note, stamp.text, source, settings, workers)
    if entry is None:
        total = source.count()
        # Closed at once when an image is refused, and its threads with it.
        with closing(
            source.decoded(size=size, channels=channels, fit=fit, workers=workers)
        ) as decoded:
            images = shown(decoded, total, doing="decoding images", progress=progress)
            entry, others = _build(cache, images, settings, source, max_bad_fraction)
    white = source.white if source.white is not None else (cache.note(note) or {}).get("white")
    noted = {"stamp": stamp.text, "key": entry.key, "others": others, "white": white}
    if stamp.settled and cache.note(note) != noted:
        cache.set_note(note, noted)
    loaded = _image_set(entry, source=str(source.root), others=others)
    judge(loaded.skipped, len(loaded.names), source.root, max_bad_fraction)
    tell(loaded)
    return loaded


def _known(
    cache: Cache, note: str, stamp: str, source: Source, settings: list[Any], workers: int | None
) -> tuple[Entry | None, dict[str, int]]:
    """The entry of an earlier run, if the source still has the same content, and other files."""
    noted = cache.note(note)
    entry = cache.get(str(noted.get("key"))) if noted is not None else None
    if noted is None or entry is None:
        return None, {}
    if noted.get("stamp") == stamp:
        return entry, noted["others"]
    # Touched, or changed? Reading all of it is far quicker than decoding all of it.
    contents = Contents()
    for name, hashed in source.hashes(workers):
        contents.add(name, hashed)
    return cache.get(_key(settings, contents, noted.get("white"))), contents.others()


def _build(
    cache: Cache,
    decoded: Iterable[Decoded],
    settings: list[Any],
    source: Source,
    max_bad_fraction: float,
) -> tuple[Entry, dict[str, int]]:
    names: list[str] = []
    failed: dict[str, str] = {}
    contents = Contents()
    with cache.writer() as writer:
        for name, result, hashed in decoded:
            contents.add(name, hashed)
            if isinstance(result, np.ndarray):
                names.append(name)
                writer.add(result)
            elif isinstance(hashed, str) and isinstance(result, Unusable):
                failed[name] = result.reason
        others, skipped = contents.others(), contents.skipped(failed)
        judge(skipped, len(names), source.root, max_bad_fraction)
        if not names:
            raise no_images(source.root, skipped, contents)
        meta = {
            "names": list(_unique(names)),
            "skipped": [(s.name, s.reason) for s in skipped],
            "remarks": [(r.text, r.is_warning) for r in source.remarks],
        }
        return writer.file(_key(settings, contents, source.white), meta=meta, arrays={}), others


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
    entry: Entry,
    *,
    source: str,
    others: dict[str, int] | None = None,
    factors: dict[str, NDArray[np.float32]] | None = None,
) -> ImageSet:
    return ImageSet(
        images=entry.images,
        names=entry.meta["names"],
        digests=entry.digests,
        fingerprint=entry.key,
        source=source,
        skipped=[Skipped(*pair) for pair in entry.meta["skipped"]],
        others=others or {},
        remarks=[Remark(*pair) for pair in entry.meta.get("remarks", [])],  # not in older ones
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


def _key(settings: list[Any], contents: Contents, white: int | list[int] | None) -> str:
    """The key of images with these contents; that of 8 bits is what it always was."""
    parts = ["images", settings, contents.images()]
    return _key_of(parts if white is None else [*parts, white])


def _key_of(parts: list[Any]) -> str:
    return content_hash(repr(parts).encode())
