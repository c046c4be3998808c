"""Archives: the same images as the folder, nothing extracted, nothing believed."""

from __future__ import annotations

import io
import os
import stat
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


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


_FILES = {"cats/0.png": _png(0), "cats/more/1.png": _png(1), "2.png": _png(2)}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(root: Any, **settings: Any) -> ImageSet:
        arguments: dict[str, Any] = {"size": 16, "progress": False, "cache_dir": tmp_path / "cache"}
        return load_images(root=root, **(arguments | settings))

    return load


def _zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def _any_archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        return _zip(path, files)
    kind = {"tar": "", "gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}[path.suffix[1:]]
    return _tar(path, [_member(n, d) for n, d in files.items()], f"w:{kind}")


_NAMES = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"]


@pytest.mark.parametrize("name", _NAMES)
def test_an_archive_gives_the_images_of_its_folder(load: Load, tmp_path: Path, name: str) -> None:
    for path, data in _FILES.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(data)
    folder = load(tmp_path / "folder")
    archive = load(_any_archive(tmp_path / name, _FILES))
    in_folder = dict(zip(folder.names, folder.images, strict=True))
    assert set(archive.names) == set(_FILES)
    for image_name, image in zip(archive.names, archive.images, strict=True):
        assert np.array_equal(image, in_folder[image_name])
    assert sorted(archive.digests) == sorted(folder.digests)


@pytest.mark.parametrize("name", _NAMES)
def test_broken_members_are_skipped_and_rubbish_passed_over(
    load: Load, tmp_path: Path, name: str
) -> None:
    rubbish = {"__MACOSX/cats/._0.png": b"x", "cats/.DS_Store": b"x", "Thumbs.db": b"x"}
    files = _FILES | rubbish | {"page.jpg": b"<html>", "readme.txt": b"cats"}
    loaded = load(_any_archive(tmp_path / name, files), max_bad_fraction=0.3)
    assert len(loaded.images) == 3
    assert [s.name for s in loaded.skipped] == ["page.jpg"]


def test_nothing_is_extracted(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "work"))
    for name in _NAMES:
        load(_any_archive(tmp_path / name, _FILES))
    left = [p for p in tmp_path.rglob("*.png") if p.is_file()]
    assert left == []
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize(
    "entry", ["../out.png", "a/../../out.png", "/etc/out.png", "..", "C:/x.png"]
)
def test_an_entry_outside_refuses_the_whole_archive(
    load: Load, tmp_path: Path, name: str, entry: str
) -> None:
    path = _any_archive(tmp_path / name, _FILES | {entry: _png(3)})
    with pytest.raises(UserError, match="points outside it") as caught:
        load(path, max_bad_fraction=1)
    assert repr(entry) in str(caught.value)
    assert "if it is yours, pack its folder anew from inside it" in str(caught.value)
    assert not list(tmp_path.rglob("out.png"))


def test_a_backslash_leads_outside_too(load: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="points outside it"):
        load(_zip(tmp_path / "a.zip", _FILES | {"..\\out.png": _png(3)}))


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        ("cats/link.png", tarfile.SYMTYPE, "../../secret.png"),
        ("link", tarfile.SYMTYPE, ".."),
        ("cats/link.png", tarfile.LNKTYPE, "../secret.png"),
        ("link.png", tarfile.LNKTYPE, "/etc/passwd"),
    ],
)
def test_a_link_that_leads_outside_a_tar_refuses_it(
    load: Load, tmp_path: Path, name: str, kind: bytes, target: str
) -> None:
    members = [_member(n, d) for n, d in _FILES.items()]
    members.append(_member(name, type=kind, linkname=target))
    with pytest.raises(UserError, match="points outside it"):
        load(_tar(tmp_path / "a.tar", members))


def test_links_inside_a_tar_add_nothing_to_their_targets(load: Load, tmp_path: Path) -> None:
    members = [_member(n, d) for n, d in _FILES.items()]
    members.append(_member("cats/more/l.png", type=tarfile.SYMTYPE, linkname="../0.png"))
    members.append(_member("hard.png", type=tarfile.LNKTYPE, linkname="cats/0.png"))
    members.append(_member("pipe", type=tarfile.FIFOTYPE))
    loaded = load(_tar(tmp_path / "a.tar", members), max_bad_fraction=0)
    assert loaded.names == list(_FILES)


@pytest.mark.parametrize(("target", "safe"), [("0.png", True), ("../../../etc/passwd", False)])
def test_links_in_a_zip_are_judged_alike(
    load: Load, tmp_path: Path, target: str, safe: bool
) -> None:
    path = _zip(tmp_path / "a.zip", _FILES)
    link = zipfile.ZipInfo("cats/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, target)
    if safe:
        assert load(path, max_bad_fraction=0).names == list(_FILES)
    else:
        with pytest.raises(UserError, match="points outside it"):
            load(path)


def test_an_archive_that_swells_is_refused_before_it_is_unpacked(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.data.sources.archives.HARMLESS_BYTES", 2**20)
    for name in ("a.zip", "a.tar.gz", "a.tar.xz"):
        path = _any_archive(tmp_path / name, _FILES | {"zeros.bmp": bytes(5 * 2**20)})
        with pytest.raises(UserError, match="a decompression bomb"):
            load(path)


def test_a_declared_size_of_gigabytes_is_refused(load: Load, tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", _FILES, zipfile.ZIP_STORED)
    data = path.read_bytes()
    # The sizes in the central directory, which come 24 bytes into each entry.
    at = data.index(b"PK\1\2") + 24
    path.write_bytes(data[:at] + (2**32 - 2).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(UserError, match="a decompression bomb"):
        load(path)


def test_a_member_that_lies_about_its_checksum_is_skipped(load: Load, tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", _FILES, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 30] ^= 0xFF
    path.write_bytes(data)
    (skipped,) = load(path, max_bad_fraction=0.5).skipped
    assert skipped.name == "cats/0.png"
    assert "CRC" in skipped.reason


def test_encrypted_members_are_named(load: Load, tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a.png": _png(0)})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.png: .*encrypted"):
        load(path)


@pytest.mark.parametrize("name", _NAMES)
def test_archives_that_cannot_be_read_are_refused(load: Load, tmp_path: Path, name: str) -> None:
    path = _any_archive(tmp_path / name, _FILES)
    whole = path.read_bytes()
    for data in (b"", b"not an archive" * 100, whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"`data\.root` must"):
            load(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_empty_archives_are_refused(load: Load, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"a\.(zip|tar) is empty"):
        load(_any_archive(tmp_path / name, {}))


def test_a_name_that_comes_twice_stands_for_two_images(load: Load, tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [_member("a.png", _png(i)) for i in range(3)])
    loaded = load(path)
    assert loaded.names == ["a.png", "a.png (2)", "a.png (3)"]
    assert len(np.unique(loaded.digests)) == 3
