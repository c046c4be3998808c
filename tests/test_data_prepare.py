"""One file made of photos: the same images, in the same splits, always in the same bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data import ImageSet, load_images, split
from experiments.data.prepare import prepare
from experiments.errors import UserError

ROOT = Path(__file__).parents[1]


def photo(path: Path, seed: int, size: tuple[int, int] = (60, 44)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed in range(30):
        photo(folder / f"of {seed % 3}" / f"{seed}.jpg", seed)
    photo(folder / "grey.png", 30)
    Image.open(folder / "grey.png").convert("LA").save(folder / "grey.png")
    return folder


def load(root: Path, tmp_path: Path, **settings: int | str) -> ImageSet:
    return load_images(root=root, size=32, cache_dir=tmp_path / "cache", progress=False, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "fit"), [(3, "crop"), (1, "pad"), (3, "squash")])
def test_the_file_holds_what_training_would_have_seen(
    folder: Path, tmp_path: Path, channels: int, fit: str
) -> None:
    out = tmp_path / "deep" / "images.zip"
    prepare(folder, out, size=32, channels=channels, fit=fit)
    before = load(folder, tmp_path, channels=channels, fit=fit)
    after = load(out, tmp_path, channels=channels)
    np.testing.assert_array_equal(after.images, before.images)
    assert after.names == [
        name if name.endswith(".png") else f"{name}.png" for name in before.names
    ]
    for ours, theirs in zip(
        vars(split(after.digests)).values(), vars(split(before.digests)).values(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_photos_give_the_same_bytes_wherever_and_whenever(
    folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(folder.rglob("*.*"), reverse=True):
        copy = elsewhere / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)  # without the times
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    prepare(folder, first, size=32)
    prepare(elsewhere, second, size=32)
    assert first.read_bytes() == second.read_bytes()
    photo(folder / "of 0" / "0.jpg", 99)
    prepare(folder, first, size=32)
    assert first.read_bytes() != second.read_bytes()


def test_any_file_name_becomes_one_that_an_archive_may_hold(tmp_path: Path) -> None:
    names = ["a:b.jpg", "x\\..\\..\\c.jpg", "d\ne.jpg", "f.png", "ü.jpg"]
    for seed, name in enumerate(names):
        photo(tmp_path / "photos" / name, seed)
    out = tmp_path / "images.zip"
    prepare(tmp_path / "photos", out, size=32)
    assert sorted(load(out, tmp_path).names) == [
        "a_b.jpg.png", "d_ne.jpg.png", "f.png", "x_.._.._c.jpg.png", "ü.jpg.png",
    ]  # fmt: skip
    photo(tmp_path / "photos" / "a_b.jpg", 9)  # would be the same
    prepare(tmp_path / "photos", out, size=32)
    assert sorted(load(out, tmp_path).names) == [f"{i}.png" for i in range(6)]


def test_a_failure_leaves_the_earlier_file_as_it_was(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "images.zip"
    prepare(folder, out, size=32)
    before = out.read_bytes()
    for number in range(20):
        (folder / f"broken {number}.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="20 of 51"):
        prepare(folder, out, size=32)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "images.zip" in path.name] == [out.name]


def test_what_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in .zip, but got .*images.npz"):
        prepare(folder, tmp_path / "images.npz")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="in a directory that can be written"):
        prepare(folder, tmp_path / "file" / "images.zip", size=32)


def test_the_command_says_what_it_wrote_and_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "images.zip"
    command = [sys.executable, "-m", "experiments.data.prepare", str(folder), str(out), "--size=32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("31 images, ")
    assert "skipped 1 of 32 images" in done.stderr
    assert len(zipfile.ZipFile(out).namelist()) == 31
