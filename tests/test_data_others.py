"""What lies beside the photos: files that are no images, and images that are not read."""

from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.data import ImageSet, load_images
from experiments.errors import UserError

Load = Callable[..., ImageSet]

_FTYP = b"\x00\x00\x00\x1cftyp"


def _encoded(seed: int, fmt: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt)
    return buffer.getvalue()


_CUT = _encoded(0, "JPEG")[:300]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02}.png").write_bytes(_encoded(i))
    return folder


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    # As if the files had been there for a while, since times of change cannot be set.
    monkeypatch.setattr("experiments.data.sources.source._SETTLED_NS", 0)

    def load(root: Any, **settings: Any) -> ImageSet:
        arguments: dict[str, Any] = {"size": 16, "progress": False, "cache_dir": tmp_path / "cache"}
        return load_images(root=root, **(arguments | settings))

    return load


def test_a_text_beside_each_photo_is_no_bad_image(
    load: Load, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(20):
        (photos / f"{i:02}.txt").write_text(f"cat {i}")
    for name in ("README", "LICENSE", "labels.csv", "boxes.csv"):
        (photos / name).write_text("two cats")
    with caplog.at_level(logging.INFO):
        loaded = load(photos, max_bad_fraction=0)
        load(photos, max_bad_fraction=0)
    assert len(loaded.images) == 20
    assert loaded.skipped == []
    assert loaded.others == {".txt": 20, ".csv": 2, "without suffix": 2}
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == (
        f"24 files in {photos} are no images and left out: 20 .txt, 2 .csv, 2 without suffix"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00.txt", b"two cats"),
        ("00.xmp", b'<?xpacket begin=""?><x:xmpmeta/>'),
        ("00.json", b"{}"),
        ("00.txt", b""),
        ("empty", b""),
        ("BMW.txt", b"BMW is a car, and BM is how a bitmap begins"),
        ("tiff.md", b"II is how a TIFF begins"),
        ("clip.mp4", _FTYP + b"isom\0\0\2\0isomiso2avc1mp41"),
        ("clip.mov", _FTYP + b"qt  \0\0\2\0qt  "),
        ("paper.pdf", b"%PDF-1.7\n"),
        ("resize.py", b"import PIL\n"),
        ("page.html", b"<!DOCTYPE html><svg></svg>"),
        ("more.zip", b"PK\3\4"),
        ("favicon.ico", b"\0\0\1\0\1\0"),
        ("weights.pt", b"PK\3\4"),
        ("img.0001", b"who knows"),
        ("a name. with dots and words", b"who knows"),
    ],
)
def test_what_is_no_image_is_counted_and_not_bad(
    load: Load, photos: Path, name: str, content: bytes
) -> None:
    (photos / name).write_bytes(content)
    loaded = load(photos, max_bad_fraction=0)
    assert len(loaded.images) == 20
    assert loaded.skipped == []
    assert sum(loaded.others.values()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""),
        ("EMPTY.JPG", b""),
        ("cut.jpeg", _CUT),
        ("cut", _CUT),
        ("cut.jpg.part", _CUT),
        ("page.png", b"<!DOCTYPE html><title>404</title>"),
        ("pointer.webp", b"version https://git-lfs.github.com/spec/v1\n"),
        ("text.tif", b"two cats"),
    ],
)
def test_what_should_be_an_image_is_bad(
    load: Load, photos: Path, name: str, content: bytes
) -> None:
    (photos / name).write_bytes(content)
    loaded = load(photos)
    assert [s.name for s in loaded.skipped] == [name]
    assert loaded.others == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photo", "photo.txt", "photo.0001", "photo.heic", "photo.dat"])
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_an_image_counts_whatever_its_name_ends_with(
    load: Load, photos: Path, name: str, fmt: str
) -> None:
    (photos / name).write_bytes(_encoded(99, fmt))
    loaded = load(photos, max_bad_fraction=0)
    assert name in loaded.names
    assert loaded.others == {}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.CR2", b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        ("a", b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        ("a.NEF", _encoded(1, "TIFF"), "camera raw"),  # whose TIFF is a tiny preview
        ("a.dng", _encoded(1, "TIFF"), "camera raw"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", "camera raw"),
        ("a.cr3", _FTYP + b"crx \0\0\0\1crx isom", "camera raw"),
        ("a.svg", b"<?xml version='1.0'?><svg/>", "SVG"),
        ("a.xml", b"<?xml version='1.0'?>\n<svg xmlns=''/>", "SVG"),
        ("a.psd", b"8BPS\0\1", "Photoshop"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("a.jxl", b"\xff\x0a", "JPEG XL"),
        ("a.exr", b"\x76\x2f\x31\x01", "OpenEXR"),
        ("a.pgm", b"P5\n2 2\n255\n", "PNM"),
        ("a.tga", b"\0\0\2", "TGA"),
        ("a.dcm", b"\0" * 128 + b"DICM", "DICOM"),
    ],
)
def test_an_image_in_a_format_that_is_not_read_is_named_with_the_remedy(
    load: Load, photos: Path, name: str, content: bytes, what: str
) -> None:
    (photos / name).write_bytes(content)
    (skipped,) = load(photos).skipped
    assert skipped.name == name
    assert what in skipped.reason
    assert "convert it to JPEG or PNG" in skipped.reason
    with pytest.raises(UserError, match="convert it to JPEG or PNG"):
        load(photos, max_bad_fraction=0)


def test_the_raw_file_of_a_photo_that_is_there_as_jpeg_is_not_missing(
    load: Load, photos: Path
) -> None:
    for i in range(20):
        (photos / f"{i:02}.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    (photos / "other").mkdir()
    (photos / "other/00.CR3").write_bytes(_FTYP + b"crx ")
    loaded = load(photos)
    assert loaded.others == {".cr2": 20}
    assert [s.name for s in loaded.skipped] == ["other/00.CR3"]


def test_a_folder_without_images_says_what_is_there(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("no cat")
    (folder / "b.txt").write_text("no cat")
    with pytest.raises(
        UserError, match=r"must hold images, but none of the 2 files in .*: 2 \.txt"
    ):
        load(folder)
    (folder / "photos.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"data\.root=.*notes/photos\.zip"):
        load(folder)


def test_a_folder_of_hidden_files_is_said_to_be_empty_but_for_them(
    load: Load, tmp_path: Path
) -> None:
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / ".cat.png").write_bytes(_encoded(0))
    with pytest.raises(UserError, match="hidden files do not count"):
        load(folder)


def _zipped(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _tarred(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize(("name", "pack"), [("a.zip", _zipped), ("a.tar.gz", _tarred)])
def test_archives_are_judged_as_folders_are(
    load: Load, tmp_path: Path, name: str, pack: Callable[[Path, dict[str, bytes]], None]
) -> None:
    images = {f"{i:02}.png": _encoded(i) for i in range(20)}
    rest = {"README.md": b"cats", "__MACOSX/._00.png": b"x", ".DS_Store": b"x", "00.json": b"{}"}
    pack(tmp_path / name, {**images, **rest, "cut.jpg": _CUT})
    loaded = load(tmp_path / name)
    assert loaded.names == list(images)
    assert [s.name for s in loaded.skipped] == ["cut.jpg"]
    assert loaded.others == {".md": 1, ".json": 1}


def test_a_large_film_is_neither_read_nor_bad(
    load: Load, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (photos / "film.mp4").open("wb") as film:
        film.write(_FTYP + b"isom")
        film.truncate(600 * 2**20)
    loaded = load(photos, max_bad_fraction=0)
    assert loaded.others == {".mp4": 1}


def test_a_file_that_becomes_an_image_is_noticed(load: Load, photos: Path) -> None:
    (photos / "new.txt").write_text("soon a cat")
    first = load(photos)
    (photos / "new.txt").write_bytes(_encoded(77))
    second = load(photos)
    assert second.names == [*first.names, "new.txt"]
    assert second.others == {}


def test_other_files_do_not_make_other_images(load: Load, photos: Path) -> None:
    first = load(photos)
    (photos / "labels.csv").write_text("name,cat\n")
    second, third = load(photos), load(photos)
    assert first.fingerprint == second.fingerprint == third.fingerprint
    assert first.others == {}
    assert second.others == third.others == {".csv": 1}
    (photos / "labels.csv").unlink()
    assert load(photos).others == {}
