"""Folders as people have them: nested, with rubbish, with broken files, with traps."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.data import ImageSet, Skipped, load_images
from experiments.errors import UserError

Load = Callable[..., ImageSet]


def _save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(19):
        _save(folder / f"{i:02}.png", i)
    return folder


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(root: Any, **settings: Any) -> ImageSet:
        arguments: dict[str, Any] = {"size": 16, "progress": False, "cache_dir": tmp_path / "cache"}
        return load_images(root=root, **(arguments | settings))

    return load


def _bomb(side: int = 60_000) -> bytes:
    """A PNG that says it is `side` pixels wide and high, and holds nearly nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [header, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_a_nested_folder_is_read_in_order_of_its_names(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b.png", "a/deep/er/z.png", "a/y.png", "c d/ü.png"):
        _save(root / name)
    assert load(root).names == ["a/deep/er/z.png", "a/y.png", "b.png", "c d/ü.png"]


def test_what_systems_leave_behind_is_passed_over_in_silence(load: Load, photos: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._00.png", ".git/x", "__MACOSX/._a"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"rubbish")
    loaded = load(photos, max_bad_fraction=0)
    assert len(loaded.images) == 19
    assert loaded.skipped == []


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("empty.jpg", lambda whole: b"", "empty file"),
        ("page.jpg", lambda whole: b"<!DOCTYPE html><title>404</title>", "not a JPEG, PNG, WebP"),
        ("cut.png", lambda whole: whole[: len(whole) // 2], "trunc"),
        ("head.png", lambda whole: whole[:10], "broken or cut short"),
    ],
)
def test_an_unusable_file_is_skipped_by_name_with_its_reason(
    load: Load, photos: Path, name: str, make: Callable[[bytes], bytes], reason: str
) -> None:
    (photos / name).write_bytes(make((photos / "00.png").read_bytes()))
    loaded = load(photos)
    assert len(loaded.images) == len(loaded.names) == len(loaded.digests) == 19
    (skipped,) = loaded.skipped
    assert skipped.name == name
    assert reason in skipped.reason


def test_a_truncated_jpeg_is_skipped(load: Load, photos: Path) -> None:
    _save(photos / "cut.jpg")
    data = (photos / "cut.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    (skipped,) = load(photos).skipped
    assert skipped.name == "cut.jpg"
    assert "truncated" in skipped.reason


def test_skipped_files_are_told_once_and_remembered_with_the_cache(
    load: Load, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "empty.jpg").touch()
    with caplog.at_level(logging.WARNING):
        first, second = load(photos), load(photos)
    assert first.skipped == second.skipped == [Skipped("empty.jpg", "empty file")]
    (record,) = caplog.records
    assert "skipped 1 of 20 images" in record.getMessage()
    assert "empty.jpg: empty file" in record.getMessage()


def test_more_unusable_files_than_allowed_are_an_error_that_names_them(
    load: Load, photos: Path, tmp_path: Path
) -> None:
    for i in range(30):
        (photos / f"bad {i:02}.jpg").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        load(photos)
    message = str(caught.value)
    assert "30 of 49" in message
    assert "`data.max_bad_fraction`" in message
    assert "bad 00.jpg: not a JPEG" in message
    assert "and 10 more" in message
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(load(photos, max_bad_fraction=0.7).skipped) == 30
    # The cached images do not soften the rule.
    with pytest.raises(UserError, match="30 of 49"):
        load(photos)


def test_exactly_the_allowed_share_is_allowed(load: Load, photos: Path) -> None:
    (photos / "bad.jpg").touch()
    assert len(load(photos, max_bad_fraction=0.05).skipped) == 1
    with pytest.raises(UserError, match="1 of 20"):
        load(photos, max_bad_fraction=0.049)


def test_a_folder_without_one_usable_image_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.jpg").write_text("no cat")
    with pytest.raises(UserError, match=r"must hold images.*\n.*a\.jpg: not a JPEG"):
        load(tmp_path / "notes", max_bad_fraction=1)


def test_missing_empty_and_unknown_roots_are_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.docx").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.npy")  # which waits for a writer
    for root, message in (
        (None, "needs `data.root`"),
        ("", "needs `data.root`"),
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "a.docx", r"must be a folder or a file ending in \.zip"),
        (tmp_path / "loop", "must be readable"),
        (tmp_path / "pipe.npy", r"must be a folder or a file .* is neither"),
    ):
        with pytest.raises(UserError, match=message):
            load(root)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"fit": "zoom"}, r"`data\.fit` must be one of crop, pad, squash, but got 'zoom'"),
        ({"size": 0}, r"`data\.size` must be in \[8, 1024\], but got 0"),
        ({"channels": 4}, r"`data\.channels` must be 1 or 3, but got 4"),
        ({"max_bad_fraction": 1.5}, r"`data\.max_bad_fraction` must be in \[0, 1\], but got 1\.5"),
        ({"max_bad_fraction": float("nan")}, "must be in"),
        ({"workers": 0}, "`workers` must be 1 or more, but got 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    load: Load, photos: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(photos, **setting)


def test_links_that_lead_in_a_circle_end(load: Load, photos: Path) -> None:
    (photos / "again").symlink_to(photos)
    (photos / "sub").mkdir()
    (photos / "sub" / "up").symlink_to("..")
    _save(photos / "sub" / "x.png", 99)
    assert len(load(photos).images) == 20


def test_links_to_files_and_folders_are_followed(load: Load, photos: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    (album / "one.png").symlink_to(photos / "00.png")
    (album / "all").symlink_to(photos)
    assert len(load(album).images) == 20


def test_dangling_links_and_pipes_are_skipped(load: Load, photos: Path) -> None:
    (photos / "gone.png").symlink_to(photos / "nothing.png")
    os.mkfifo(photos / "pipe.png")
    skipped = {s.name: s.reason for s in load(photos, max_bad_fraction=0.2).skipped}
    assert skipped == {"gone.png": "a link to nothing", "pipe.png": "not a regular file"}


def test_names_cannot_write_to_the_terminal(load: Load, photos: Path) -> None:
    (photos / "\x1b[2Jred\n.png").write_bytes(b"x")
    (photos / os.fsdecode(b"latin\xe9.png")).write_bytes(b"x")
    skipped = load(photos, max_bad_fraction=0.2).skipped
    assert all(s.name.isprintable() and s.name.isascii() for s in skipped)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Drop root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach and write, with 19 images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for i in range(19):
            _save(folder / "photos" / f"{i:02}.png", i)
        yield folder


def test_files_and_folders_without_permission_are_skipped(load: Load, open_folder: Path) -> None:
    photos = open_folder / "photos"
    (photos / "00.png").chmod(0)
    _save(photos / "private" / "a.png").parent.chmod(0)
    with _as_nobody():
        loaded = load(photos, cache_dir=open_folder / "cache", max_bad_fraction=0.2)
    (photos / "private").chmod(0o755)
    assert len(loaded.images) == 18
    reasons = {s.name: s.reason for s in loaded.skipped}
    assert reasons == {"00.png": "Permission denied", "private/": "Permission denied"}


def test_a_root_without_permission_is_refused(load: Load, open_folder: Path) -> None:
    photos = open_folder / "photos"
    (open_folder / "a.zip").write_bytes(b"PK")
    (open_folder / "a.zip").chmod(0)
    photos.chmod(0)
    try:
        with _as_nobody():
            for root in (photos, open_folder / "a.zip"):
                with pytest.raises(UserError, match="must be readable"):
                    load(root, cache_dir=open_folder / "cache")
    finally:
        photos.chmod(0o755)


@pytest.mark.parametrize("name", ["photos", "a.zip"])
def test_a_decompression_bomb_is_skipped_undecoded_like_any_unusable_image(
    name: str, load: Load, photos: Path, tmp_path: Path
) -> None:
    (photos / "bomb.png").write_bytes(_bomb())
    if name == "a.zip":
        shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    root = photos if name == "photos" else tmp_path / name
    (skipped,) = load(root, max_bad_fraction=0.5).skipped
    assert (skipped.name, skipped.reason.partition(" declared")[0]) == (
        "bomb.png", "too large: 3,600,000,000 pixels",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"may be unusable .*\n.*bomb\.png: too large"):
        load(root, max_bad_fraction=0)


def test_a_huge_image_of_many_bytes_is_skipped_undecoded(load: Load, photos: Path) -> None:
    # Not a bomb by its ratio, but more than can be decoded: 14,000 squared is 196 million.
    (photos / "pano.png").write_bytes(_bomb(14_000) + b"\0" * 3_000_000)
    (skipped,) = load(photos).skipped
    assert skipped.name == "pano.png"
    assert "too large: 196,000,000 pixels" in skipped.reason


def test_one_image_is_the_same_however_many_threads_decode(load: Load, photos: Path) -> None:
    one, four = load(photos, workers=1), load(photos, workers=4, cache_dir=photos.parent / "other")
    assert np.array_equal(one.images, four.images)
    assert one.fingerprint == four.fingerprint


def test_exact_duplicates_have_equal_digests(load: Load, photos: Path) -> None:
    (photos / "copy.png").write_bytes((photos / "07.png").read_bytes())
    loaded = load(photos)
    equal = np.flatnonzero(loaded.digests == loaded.digests[loaded.names.index("07.png")])
    assert [loaded.names[i] for i in equal] == ["07.png", "copy.png"]
    assert len(np.unique(loaded.digests)) == 19
