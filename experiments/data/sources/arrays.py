"""Images in one array: .npy, .npz or a tensor in .pt."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.decoding import depth
from experiments.data.decoding.decode import from_array
from experiments.data.imageset import Remark
from experiments.data.parallel import in_order
from experiments.data.sources.contents import content_hash
from experiments.data.sources.source import Decoded, Hashed, Source
from experiments.data.sources.tensors import chosen, most_unpacked, tensor_file
from experiments.errors import UserError
from experiments.record.foreign import check_npy, check_npz

_CHANNELS = (1, 3, 4)
_OBJECTS = (
    "it holds Python objects, as NumPy makes them of pictures of several sizes; bring them to one "
    "size, or save each as a PNG in a folder"
)
_ONE = (1, 2, 3, 4)  # as the last of three axes: no picture is so narrow

ToUint8 = Callable[[NDArray[Any]], NDArray[np.uint8]]


class ArrayFile(Source):
    """N images (N, H, W, C), (N, C, H, W) or (N, H, W).

    Integers in [0, 255], those of 16 or 32 bits up to 65535, or floats in [0, 1].
    """

    def paths(self) -> list[Path]:
        return [self.root]

    def count(self) -> int:
        """N.

        Raises:
            UserError: the file cannot be read, or holds no such images.
        """
        return len(self._images)

    def hashes(self, workers: int | None = None) -> Iterator[Hashed]:
        def work(i: int) -> Hashed:
            return str(i), self._hash_of(i)

        return in_order(work, range(self.count()), workers)

    def decoded(
        self, *, size: int, channels: int, fit: str, workers: int | None = None
    ) -> Generator[Decoded, None, None]:
        to_uint8, self.white, self.remarks = _scaling(self._images, self.root)

        def work(i: int) -> Decoded:
            pixels = np.ascontiguousarray(to_uint8(self._images[i]))
            result = from_array(pixels, size=size, channels=channels, fit=fit)
            return str(i), result, self._hash_of(i)

        yield from in_order(work, range(self.count()), workers)

    @cached_property
    def _images(self) -> NDArray[Any]:
        """(N, H, W, C), memory-mapped where the file allows."""
        try:
            is_torch = self.root.suffix.lower() == ".pt"
            array = tensor_file(self.root) if is_torch else _numpy_array(self.root)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                "`data.root` must be an array that can be read without running code, but "
                f"{self.root} gives: {error}"
            ) from error
        return _channels_last(array, self.root)

    def _hash_of(self, i: int) -> str:
        image = self._images[i]
        kind = f"{image.dtype.str} {image.shape} ".encode()
        return content_hash(kind + image.tobytes())


def _numpy_array(path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".npz":
        check_npz(path, most_unpacked(path))
    else:
        with path.open("rb") as file:
            check_npy(file, path.stat().st_size)
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(_OBJECTS if _is_of_objects(error) else str(error)) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        array = chosen({name: _member(loaded, name) for name in loaded}, path)
    if not isinstance(array, np.ndarray):
        raise ValueError(_OBJECTS)
    return array


def _member(archive: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any] | None:
    """An array of a .npz; None for one of objects, such as names beside the images."""
    try:
        return archive[name]
    except ValueError as error:
        if _is_of_objects(error):
            return None
        raise


def _is_of_objects(error: ValueError) -> bool:
    return "allow_pickle" in str(error) or "Python objects" in str(error)


def _channels_last(images: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array as (N, H, W, C).

    Raises:
        UserError: it is not several pictures, or does not say which axis is which.
    """
    shape = images.shape
    if images.ndim == 3 and images.size:
        _refuse_one(shape, path)
        return images[..., None]
    if images.ndim == 4 and images.size:
        last, first = shape[3] in _CHANNELS, shape[1] in _CHANNELS
        if first and last:
            raise UserError(
                f"an array must say which of its axes are the channels, but {path} is {shape}, "
                "which may be (N, H, W, C) and (N, C, H, W); save pictures of more than 4 pixels "
                "a side"
            )
        if last:
            return images
        if first:
            return images.transpose(0, 2, 3, 1)
    raise UserError(
        "an array of images must be (N, H, W, C), (N, C, H, W) or (N, H, W) with 1, 3 or 4 "
        f"channels and N above 0, but {path} is {shape}{_advice(shape)}"
    )


def _refuse_one(shape: tuple[int, ...], path: Path) -> None:
    """Refuse one picture with its channels, which looks like N grey ones of a strip."""
    axis = "last" if shape[2] in _ONE else "first" if shape[0] in _CHANNELS else None
    if axis is None:
        return
    layout = "(H, W, C)" if axis == "last" else "(C, H, W)"
    raise UserError(
        f"an array must hold many pictures, but {path} is {shape}, one picture {layout}; stack "
        "many into (N, H, W, C), np.stack(pictures), or save them as PNG files in a folder; N "
        "grey pictures are (N, H, W, 1)"
    )


def _advice(shape: tuple[int, ...]) -> str:
    """What to do with an array of another shape."""
    if 0 in shape:
        return ", which is empty"
    if len(shape) == 2:
        return (
            ": one grey picture, or one row for each; stack many pictures into (N, H, W), or "
            "bring rows to their shape, array.reshape(N, H, W)"
        )
    if len(shape) == 4:
        return "; keep 3 of the channels, or 1"
    if len(shape) > 4:
        return ", which has too many axes; bring it to four, array.reshape(-1, *array.shape[-3:])"
    return ""


def _scaling(images: NDArray[Any], path: Path) -> tuple[ToUint8, int | None, list[Remark]]:
    """The function that brings images of this type to uint8; white and remarks as of `Source`.

    Raises:
        UserError: the values are not integers in [0, 255], those of 16 or 32 bits in [0, 65535],
            nor floats in [0, 1].
    """
    if images.dtype == np.bool_:
        return lambda image: image.astype(np.uint8) * np.uint8(255), None, []
    if images.dtype.kind not in "iuf" or images.dtype == np.int8:
        what = ", which cannot hold [0, 255]; save uint8" if images.dtype == np.int8 else ""
        raise UserError(
            f"an array of images must hold numbers, but {path} holds {images.dtype}{what}"
        )
    # NaN is carried on by both, and is neither below nor above anything.
    low = float(np.min([image.min() for image in images]))
    high = float(np.max([image.max() for image in images]))
    is_deep = images.dtype.kind in "iu" and images.dtype.itemsize in (2, 4)
    top = (depth.FULL if is_deep else 255) if images.dtype.kind in "iu" else 1
    if not (low >= 0 and high <= top):
        raise UserError(
            f"images of type {images.dtype} must lie in [0, {top}], but those of {path} lie in "
            f"[{low:g}, {high:g}]; {_rescaling(low, high, top)} and save the file again"
        )
    remarks = []
    if is_deep and depth.white_of(high) != depth.FULL:
        top = depth.white_of(high)
        remarks.append(depth.remark(8 * images.dtype.itemsize, high, top))
    if 0 < high <= top * depth.DARK:  # such as masks of 0 and 1
        text = (
            f"it holds {images.dtype}, but none above {high:.3g} of {top}: its images are black or "
            "nearly so; if their white is another number, scale them"
        )
        remarks.append(Remark(text, is_warning=True))
    if images.dtype == np.uint8:
        return lambda image: image, None, remarks
    white = top if is_deep and top != depth.FULL else None

    def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
        return np.round(image.astype(np.float64) * (255 / top)).astype(np.uint8)

    return to_uint8, white, remarks


def _rescaling(low: float, high: float, top: int) -> str:
    """How to bring values into the range."""
    if np.isnan(low + high):
        return "replace NaN"
    if top == 1 and low >= 0 and high <= 255:
        return "scale them, images / 255,"
    if top == 1 and -1 <= low < 0 and high <= 1:
        return "scale them, (images + 1) / 2,"
    return "scale them"
