"""The second load starts at once, notices every change, and survives what happens to disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.data import ImageSet, load_cats, load_images
from experiments.data import cache as caching
from experiments.errors import UserError

Load = Callable[..., ImageSet]


def _save(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images that were last changed an hour ago."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        _save(folder / f"{i:02}.bmp", i)  # all of one size in bytes
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def load(cache: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    # As if the files had been there for a while, since times of change cannot be set.
    monkeypatch.setattr("experiments.data.sources.source._SETTLED_NS", 0)
    caching._found_whole.clear()

    def load(**settings: Any) -> ImageSet:
        arguments: dict[str, Any] = {
            "root": photos,
            "size": 16,
            "cache_dir": cache,
            "progress": False,
        }
        return load_images(**(arguments | settings))

    return load


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many images have been read and decoded so far."""
    from experiments.data.decoding import decode as decoding
    from experiments.data.sources import source as sources

    done = {"decoded": 0, "read": 0}
    decode, read = decoding.decode, sources._read

    def counting_decode(*args: Any, **settings: Any) -> Any:
        done["decoded"] += 1
        return decode(*args, **settings)

    def counting_read(*args: Any) -> Any:
        done["read"] += 1
        return read(*args)

    monkeypatch.setattr(sources, "decode", counting_decode)
    monkeypatch.setattr(sources, "_read", counting_read)
    return done


def _entries(cache: Path) -> list[Path]:
    return [p.parent for p in cache.glob("*/index.json")]


def test_the_first_load_reads_each_file_once_and_the_second_none(
    load: Load, work: dict[str, int]
) -> None:
    first = load()
    assert work == {"decoded": 12, "read": 12}
    second = load()
    assert work == {"decoded": 12, "read": 12}
    assert np.array_equal(first.images, second.images)
    assert (first.names, first.fingerprint) == (second.names, second.fingerprint)
    assert np.array_equal(first.digests, second.digests)


def test_images_are_a_read_only_memory_map(load: Load) -> None:
    images = load().images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_a_touched_folder_is_read_but_not_decoded_again(
    load: Load, photos: Path, work: dict[str, int]
) -> None:
    first = load()
    (photos / "03.bmp").touch()
    assert load().fingerprint == first.fingerprint
    assert work == {"decoded": 12, "read": 24}
    load()
    assert work["read"] == 24


def test_a_change_that_keeps_size_and_time_is_noticed(load: Load, photos: Path) -> None:
    first = load()
    before = (photos / "03.bmp").stat()
    data = bytearray((photos / "03.bmp").read_bytes())
    data[-1] ^= 0xFF
    (photos / "03.bmp").write_bytes(data)
    after = before
    while after.st_ctime_ns == before.st_ctime_ns:  # until the file system's clock has ticked
        os.utime(photos / "03.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
        after = (photos / "03.bmp").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = load()
    assert first.fingerprint != second.fingerprint
    assert np.flatnonzero(first.digests != second.digests).tolist() == [3]


def test_a_change_right_after_the_load_is_noticed_whatever_the_clock_says(
    load: Load, photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.data.sources.source._SETTLED_NS", 2 * 10**9)
    first = load()
    # A file system with coarse times would give the new content the stamp of the old.
    from experiments.data.sources.source import Source, Stamp

    monkeypatch.setattr(Source, "stamp", lambda self: Stamp("the same", settled=False))
    load()
    _save(photos / "03.bmp", 99)
    assert load().fingerprint != first.fingerprint


@pytest.mark.parametrize("change", ["add", "remove", "rename", "replace"])
def test_a_changed_folder_is_noticed(load: Load, photos: Path, change: str) -> None:
    first = load()
    if change == "add":
        _save(photos / "new.bmp", 99)
    elif change == "remove":
        (photos / "03.bmp").unlink()
    elif change == "rename":
        (photos / "03.bmp").rename(photos / "new.bmp")
    else:
        (photos / "04.bmp").replace(photos / "03.bmp")
    second = load()
    assert second.fingerprint != first.fingerprint
    assert second.names == sorted(p.name for p in photos.iterdir())


def test_a_folder_changed_back_is_not_decoded_again(
    load: Load, photos: Path, work: dict[str, int]
) -> None:
    first = load()
    data = (photos / "03.bmp").read_bytes()
    _save(photos / "03.bmp", 99)
    load()
    (photos / "03.bmp").write_bytes(data)
    decoded = work["decoded"]
    assert load().fingerprint == first.fingerprint
    assert work["decoded"] == decoded


@pytest.mark.parametrize(
    "setting", [{"size": 8}, {"channels": 1}, {"fit": "squash"}, {"fit": "pad"}]
)
def test_each_setting_has_its_own_entry(load: Load, cache: Path, setting: dict[str, Any]) -> None:
    first, other = load(), load(**setting)
    assert first.fingerprint != other.fingerprint
    assert len(_entries(cache)) == 2
    assert load().fingerprint == first.fingerprint


def test_a_copy_of_the_folder_shares_the_entry(load: Load, photos: Path, cache: Path) -> None:
    import shutil

    shutil.copytree(photos, photos.parent / "copy")
    assert load().fingerprint == load(root=photos.parent / "copy").fingerprint
    assert len(_entries(cache)) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink, lambda p: p.write_bytes(b"")])
@pytest.mark.parametrize("name", ["images.u8", "digests.npy", "index.json", "arrays.npz"])
def test_a_damaged_entry_is_built_again(
    load: Load, cache: Path, name: str, damage: Callable[[Path], None]
) -> None:
    first = np.array(load().images)
    (entry,) = _entries(cache)
    damage(entry / name)
    caching._found_whole.clear()  # as in another process
    assert np.array_equal(load().images, first)
    (entry,) = _entries(cache)
    caching._found_whole.clear()
    assert caching.Cache(cache).get(entry.name) is not None


def test_a_damaged_note_is_no_harm(load: Load, cache: Path) -> None:
    first = load()
    (note,) = (cache / "notes").iterdir()
    for text in ("", "null", "[1]", '{"key": "../../x"}', "{}"):
        note.write_text(text)
        assert load().fingerprint == first.fingerprint


def test_damaged_cats_are_drawn_again(cache: Path) -> None:
    first = np.array(load_cats(count=5, size=8, cache_dir=cache, progress=False).images)
    (entry,) = _entries(cache)
    _flip(entry / "images.u8")
    caching._found_whole.clear()
    again = load_cats(count=5, size=8, cache_dir=cache, progress=False)
    assert np.array_equal(again.images, first)


def test_a_failed_build_leaves_nothing(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.data.sources.source.decode", fail)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert list(cache.iterdir()) == []


def test_what_killed_builds_left_is_swept_after_a_day(load: Load, cache: Path) -> None:
    old, young = cache / ".building-old", cache / ".building-young"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "images.u8").write_bytes(b"half")
    os.utime(old, (0, 0))
    load()
    assert not old.exists()
    assert young.exists()


def test_a_cache_that_cannot_be_made_is_an_error_with_the_remedy(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    message = r"`data\.cache_dir` must be .* can be written.*file.*set data\.cache_dir elsewhere"
    with pytest.raises(UserError, match=message):
        load(cache_dir=tmp_path / "file")
    with pytest.raises(UserError, match=message):
        load_cats(count=3, size=8, cache_dir=tmp_path / "file" / "cache", progress=False)


_RUN = """
import resource, sys
from pathlib import Path
from experiments.data import load_images
from experiments.errors import UserError
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    images = load_images(root=sys.argv[1], cache_dir=sys.argv[2], size=16, progress=False)
    print(images.fingerprint, int(images.images.sum()))
except UserError as error:
    print("UserError:", error)
"""


def _process(photos: Path, cache: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, str(photos), str(cache), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("limit", [100, 12 * 16 * 16 * 3 - 1])  # early and at the last byte
def test_a_full_disk_is_an_error_and_leaves_no_entry(photos: Path, cache: Path, limit: int) -> None:
    # A limit on the size of files fails a write as a full disk does.
    output, _ = _process(photos, cache, limit).communicate()
    assert output.startswith("UserError: `data.cache_dir` must be a directory that can be written")
    assert list(cache.iterdir()) == []


def test_processes_that_build_the_same_cache_agree(photos: Path, cache: Path, load: Load) -> None:
    processes = [_process(photos, cache) for _ in range(3)]
    outputs = {process.communicate()[0] for process in processes}
    mine = load()
    assert outputs == {f"{mine.fingerprint} {int(mine.images.sum())}\n"}
    assert len(_entries(cache)) == 1
    assert not list(cache.glob(".building-*"))


def test_a_later_builder_yields_to_an_earlier_one(cache: Path) -> None:
    image = np.zeros((3, 8, 8), np.uint8)
    shared = caching.Cache(cache)
    with shared.writer() as slow, shared.writer() as quick:
        for writer in (slow, quick):
            writer.add(image)
        first = quick.file("key", meta={"by": "quick"}, arrays={})
        second = slow.file("key", meta={"by": "slow"}, arrays={})
    assert first.meta == second.meta == {"by": "quick"}
    assert [p.name for p in cache.iterdir()] == ["key"]


def test_a_cached_set_loads_from_a_directory_that_is_read_only(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert load().fingerprint == first.fingerprint
