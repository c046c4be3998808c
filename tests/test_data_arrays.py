"""Arrays in .npy, .npz and .pt: every layout and type, and what is refused."""

from __future__ import annotations

import warnings
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
    with pytest.raises(UserError, match=r"one called images.*but got first \(5, 16"):
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
        (np.full((5, 16, 16), "a"), "must hold numbers"),
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
        ([1, 2], r"must hold one array.*\[0\] int, \[1\] int"),
        (torch.zeros(2, 3, 8, 8).to_sparse(), "sparse"),
    ):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(UserError, match=message):
            load(tmp_path / "a.pt")


def test_arrays_that_swell_are_refused(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.data.sources.tensors._HARMLESS_BYTES", 2**20)
    np.savez_compressed(tmp_path / "a.npz", np.zeros((100, 200, 200, 3), np.uint8))
    torch.save(torch.zeros(1, 8, 8, 3).expand(10_000, 8, 8, 3), tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        with pytest.raises(UserError, match=r"bytes.* more than [12],"):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("dtype", "most", "white"),
    [
        ("u2", 255, 255), ("u2", 900, 1023), ("u2", 4000, 4095), ("u2", 65535, 65535),
        ("i2", 255, 255), ("i4", 4000, 4095),
    ],
)  # fmt: skip
def test_white_of_wide_integers_is_that_of_the_bits_they_hold(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, most: int, white: int
) -> None:
    caplog.set_level("INFO")
    images = np.linspace(0, most, 9 * 16 * 16).reshape(9, 16, 16).astype(dtype)
    loaded = load(_save(tmp_path / "a.npy", images)).images[:, 0]
    assert np.array_equal(loaded, np.round(images * (255 / white)))
    assert (f"white is taken as {white}" in caplog.text) == (white < 65535)


def test_integers_of_0_and_1_are_told_to_be_black(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":  # of the same content, so the second is in the cache
        images = load(_save(tmp_path / f"{name}.npy", _IMAGES % 2))
        assert f"{name}.npy: it holds uint8, but none above 1 of 255" in caplog.text
        (remark,) = images.remarks
        assert remark.is_warning


def test_a_changed_array_is_noticed(load: Load, tmp_path: Path) -> None:
    first = load(_save(tmp_path / "a.npy", _IMAGES))
    second = load(_save(tmp_path / "a.npy", 255 - _IMAGES))
    assert first.fingerprint != second.fingerprint
    assert np.array_equal(second.images, 255 - first.images)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32, 32), "one grey picture"),
        ((500, 784), r"array\.reshape\(N, H, W\)"),
        ((32, 32, 1), r"one picture \(H, W, C\)"),
        ((32, 32, 2), r"one picture \(H, W, C\)"),
        ((32, 32, 3), r"one picture \(H, W, C\); stack many into \(N, H, W, C\)"),
        ((32, 32, 4), r"one picture \(H, W, C\)"),
        ((1, 32, 32), r"one picture \(C, H, W\)"),
        ((3, 32, 32), r"one picture \(C, H, W\)"),
        ((4, 32, 32), r"one picture \(C, H, W\)"),
        ((3, 32, 3), "one picture"),
        ((20, 2, 32, 32), "keep 3 of the channels"),
        ((20, 32, 32, 5), "keep 3 of the channels"),
        ((20, 3, 4, 4), "may be .* and"),
        ((20, 3, 64, 3), "may be .* and"),
        ((20, 1, 28, 1), "may be .* and"),
        ((4, 20, 3, 32, 32), r"reshape\(-1"),
        ((20, 0, 32, 3), "is empty"),
        ((0,), "is empty"),
        ((), r"is \(1?,?\)"),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt"])
def test_what_is_not_clearly_many_pictures_is_refused(
    load: Load, tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(_save(tmp_path / name, np.zeros(shape, np.uint8)))


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((20, 32, 32), 20),
        ((5, 32, 32), 5),
        ((2, 32, 32), 2),
        ((20, 8, 8), 20),
        ((3, 32, 32, 3), 3),
        ((3, 3, 32, 32), 3),
        ((1, 32, 32, 3), 1),
        ((20, 1, 32, 32), 20),
        ((20, 32, 32, 1), 20),
        ((20, 4, 32, 32), 20),
        ((20, 5, 32, 3), 20),
    ],
)
def test_what_is_clearly_many_pictures_is_read(
    load: Load, tmp_path: Path, shape: tuple[int, ...], count: int
) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert len(load(_save(tmp_path / "a.npy", array)).images) == count


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((9, 16, 16), 1 / 255), "none above 0.00392 of 1"),
    ],
)
def test_images_that_are_nearly_black_since_they_were_scaled_otherwise_are_told(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, array: NDArray[Any], told: str
) -> None:
    load(_save(tmp_path / "a.npy", array))
    assert told in caplog.text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (_FLOATS * 255, r"images / 255"),
        (_FLOATS * 2 - 1, r"\(images \+ 1\) / 2"),
        ((_IMAGES // 2).astype(np.int8), "int8, which cannot hold"),
        (_IMAGES.astype("M8[s]"), "must hold numbers"),
        (np.zeros((5, 16, 16), [("r", "u1"), ("g", "u1")]), "must hold numbers"),
    ],
)
def test_types_and_ranges_that_are_wrong_come_with_the_remedy(
    load: Load, tmp_path: Path, array: NDArray[Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(_save(tmp_path / "a.npy", array))


def test_pictures_of_several_sizes_in_one_array_are_refused_with_the_remedy(
    load: Load, tmp_path: Path
) -> None:
    ragged = np.empty(2, object)
    ragged[:] = [_IMAGES[0], _IMAGES[0, :8]]
    np.save(tmp_path / "a.npy", ragged)
    np.savez(tmp_path / "b.npz", images=ragged)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(UserError, match="pictures of several sizes; bring them to one size"):
            load(tmp_path / name)


def test_the_only_array_with_the_shape_of_images_is_taken(load: Load, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", faces=_IMAGES, labels=np.zeros(5), names=np.array(["a"] * 5))
    objects = np.array(["a", None], dtype=object)
    np.savez(tmp_path / "b.npz", faces=_IMAGES, names=objects)
    torch.save((torch.from_numpy(_IMAGES), torch.zeros(5)), tmp_path / "a.pt")
    for name in ("a.npz", "b.npz", "a.pt"):
        assert len(load(tmp_path / name).images) == 5


def test_of_several_arrays_the_message_has_their_shapes(load: Load, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=_IMAGES, x_test=_IMAGES[:2], y_train=np.zeros(5))
    with pytest.raises(UserError, match=r"x_train \(5, 16, 16, 3\), x_test \(2, 16, 16, 3\), y_"):
        load(tmp_path / "a.npz")


_TENSOR = torch.from_numpy(_IMAGES)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.utils.data.TensorDataset(_TENSOR), r"TensorDataset.*torch\.stack\(\[dataset\["),
        (torch.nn.Conv2d(3, 4, 3), "torch.nn.modules.conv.Conv2d"),
        (torch.nn.Conv2d(3, 4, 3).state_dict(), "the weights of a model"),
        ({"weight": torch.zeros(4, 3, 3, 3), "bias": torch.zeros(4)}, "the weights of a model"),
        ({"state_dict": {}, "epoch": 3}, "the weights of a model"),
        (_IMAGES, r"a NumPy array.*np\.save\('images\.npy'"),
        ({"images": _IMAGES}, "a NumPy array"),
        ([_TENSOR[0]] * 5, r"a list of 5 pictures; save torch\.stack"),
        ({"cats": _TENSOR, "dogs": _TENSOR}, r"cats \(5, 16, 16, 3\), dogs"),
        ([], "but got none"),
        ({}, "but got none"),
        (None, "holds a NoneType, not a tensor; save the pictures as one tensor"),
        ("images", "holds a str"),
    ],
)
def test_a_pt_file_with_something_else_says_what_and_how_to_save_it(
    load: Load, tmp_path: Path, value: Any, message: str
) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value)  # PyTorch's advice is to run the file's code
    assert str(caught.value).isprintable()


def test_a_program_or_a_text_called_pt_is_refused(load: Load, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates it, and files stay
        torch.jit.script(torch.nn.Conv2d(3, 4, 3)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match="a TorchScript program"):
        load(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("hello")
    with pytest.raises(UserError, match=r"no file of torch\.save"):
        load(tmp_path / "b.pt")
