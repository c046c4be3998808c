"""Arrays in .npy, .npz and .pt: every layout and type, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.data import ImageSet, load_images
from experiments.errors import UserError

Load = Callable[..., ImageSet]
_IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(root: Any, **settings: Any) -> ImageSet:
        arguments: dict[str, Any] = {"size": 16, "progress": False, "cache_dir": tmp_path / "cache"}
        return load_images(root=root, **(arguments | settings))

    return load


def _save(path: Path, array: NDArray[Any]) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, whatever=array)
    else:
        torch.save(torch.from_numpy(np.ascontiguousarray(array)), path)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.PT", "a.NPY"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_both_layouts_give_the_same_images(
    load: Load, tmp_path: Path, name: str, layout: str
) -> None:
    array = _IMAGES if layout == "NHWC" else _IMAGES.transpose(0, 3, 1, 2)
    lower = _save(tmp_path / name.lower(), array)
    loaded = load(lower.rename(tmp_path / name))
    assert np.array_equal(loaded.images, _IMAGES.transpose(0, 3, 1, 2))
    assert loaded.names == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.uint16) * 257,
        lambda a: a / 255,
        lambda a: (a / 255).astype(np.float32),
        lambda a: (a / 255).astype(np.float16),
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(">i4"),
    ],
)
def test_every_type_of_number_gives_the_same_images(
    load: Load, tmp_path: Path, convert: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    loaded = load(_save(tmp_path / "a.npy", convert(_IMAGES)))
    assert np.array_equal(loaded.images, _IMAGES.transpose(0, 3, 1, 2))


def test_arrays_without_channels_are_grey(load: Load, tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npy", _IMAGES[..., 0])
    assert np.array_equal(load(path, channels=1).images, _IMAGES[..., :1].transpose(0, 3, 1, 2))
    assert np.array_equal(load(path).images, np.repeat(_IMAGES[:, None, :, :, 0], 3, axis=1))


def test_booleans_are_black_and_white(load: Load, tmp_path: Path) -> None:
    mask = _IMAGES[..., 0] > 128
    loaded = load(_save(tmp_path / "a.npy", mask), channels=1)
    assert np.array_equal(loaded.images[:, 0], mask * 255)


def test_a_fourth_channel_is_transparency_over_white(load: Load, tmp_path: Path) -> None:
    clear = np.concatenate([_IMAGES, np.zeros((5, 16, 16, 1), np.uint8)], axis=3)
    assert (load(_save(tmp_path / "a.npy", clear)).images == 255).all()


def test_other_sizes_are_resized(load: Load, tmp_path: Path) -> None:
    flat = np.broadcast_to(_IMAGES[:, :1, :1], (5, 30, 40, 3))
    loaded = load(_save(tmp_path / "a.npy", flat), size=8)
    assert loaded.images.shape == (5, 3, 8, 8)
    assert np.array_equal(loaded.images[:, :, 4, 4], _IMAGES[:, 0, 0])


def test_bfloat16_tensors_and_dictionaries_are_read(load: Load, tmp_path: Path) -> None:
    tensor = torch.from_numpy(_IMAGES) / 255
    torch.save({"labels": torch.zeros(5), "images": tensor.bfloat16()}, tmp_path / "a.pt")
    difference = load(tmp_path / "a.pt").images - _IMAGES.transpose(0, 3, 1, 2).astype(int)
    assert np.abs(difference).max() <= 1


def test_of_several_arrays_the_one_called_images_counts(load: Load, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.zeros(5), images=_IMAGES)
    assert len(load(tmp_path / "a.npz").images) == 5
    np.savez(tmp_path / "b.npz", first=_IMAGES, second=_IMAGES)
    with pytest.raises(UserError, match=r"one called images.*but got \['first', 'second'\]"):
        load(tmp_path / "b.npz")


_FLOATS = (_IMAGES / 255).astype(np.float32)
_NAN = _FLOATS.copy()
_NAN[3, 2, 1, 0] = np.nan
_INFINITE = _FLOATS.copy()
_INFINITE[3, 2, 1, 0] = np.inf


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (_NAN, r"must lie in \[0, 1\].*replace NaN"),
        (_INFINITE, r"must lie in \[0, 1\].*inf"),
        (_FLOATS * 255, r"float32 must lie in \[0, 1\], but .* lie in \[0, 255\]; scale"),
        (_FLOATS * 2 - 1, r"lie in \[-1, 1\]"),
        (_IMAGES.astype(int) + 1, r"int64 must lie in \[0, 255\], but .* lie in \[1, 256\]"),
        (_IMAGES.astype(int) - 1, r"lie in \[-1, 254\]"),
        (_FLOATS.astype(complex), "must hold numbers, but .* holds complex128"),
        (np.array([["a"] * 3] * 3)[None], "must hold numbers"),
        (_IMAGES[0, 0], r"must be \(N, H, W, C\).*is \(16, 3\)"),
        (_IMAGES[None], r"is \(1, 5, 16, 16, 3\)"),
        (_IMAGES[..., :2], r"1, 3 or 4 channels .*is \(5, 16, 16, 2\)"),
        (_IMAGES[:0], r"N above 0, but .* is \(0, 16, 16, 3\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    load: Load, tmp_path: Path, array: NDArray[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(_save(tmp_path / "a.npy", array))


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt"])
def test_loading_an_array_never_runs_code(load: Load, tmp_path: Path, name: str) -> None:
    path, sprung = tmp_path / name, tmp_path / "sprung"
    if name == "a.pt":
        torch.save({"images": _Trap(sprung)}, path)
    else:
        _save(path, np.array([_Trap(sprung)], dtype=object))
    with pytest.raises(UserError, match="without running code"):
        load(path)
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt"])
@pytest.mark.parametrize("keep", [0, 7, 300])
def test_truncated_arrays_are_refused(load: Load, tmp_path: Path, name: str, keep: int) -> None:
    path = _save(tmp_path / name, _IMAGES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"must be an array that can be read"):
        load(path)


def test_a_pt_file_that_holds_no_dense_tensor_is_refused(load: Load, tmp_path: Path) -> None:
    for value, message in (
        ([1, 2], "holds a list"),
        (torch.zeros(2, 3, 8, 8).to_sparse(), "sparse"),
    ):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(UserError, match=message):
            load(tmp_path / "a.pt")


def test_arrays_that_swell_are_refused(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.data.archives.HARMLESS_BYTES", 2**20)
    np.savez_compressed(tmp_path / "a.npz", np.zeros((100, 200, 200, 3), np.uint8))
    torch.save(torch.zeros(1, 8, 8, 3).expand(10_000, 8, 8, 3), tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        with pytest.raises(UserError, match="a decompression bomb"):
            load(tmp_path / name)


def test_integers_of_0_and_1_are_told_to_be_black(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(_save(tmp_path / "a.npy", _IMAGES % 2))
    assert "none above 1 of 255" in caplog.text


def test_a_changed_array_is_noticed(load: Load, tmp_path: Path) -> None:
    first = load(_save(tmp_path / "a.npy", _IMAGES))
    second = load(_save(tmp_path / "a.npy", 255 - _IMAGES))
    assert first.fingerprint != second.fingerprint
    assert np.array_equal(second.images, 255 - first.images)
