"""Images in one array: .npy, .npz or a tensor in .pt."""

from __future__ import annotations

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.archives import MAX_RATIO, swells
from experiments.data.decode import from_array
from experiments.data.parallel import in_order
from experiments.data.sources import Decoded, Hashed, Source
from experiments.errors import UserError
from experiments.foreign import check_npy, check_npz

_CHANNELS = (1, 3, 4)
_PREFERRED = ("images", "imgs", "x", "data", "arr_0")

ToUint8 = Callable[[NDArray[Any]], NDArray[np.uint8]]

log = logging.getLogger(__name__)


class ArrayFile(Source):
    """N images (N, H, W, C), (N, C, H, W) or (N, H, W).

    Integers in [0, 255], 16-bit unsigned ones in [0, 65535], or floats in [0, 1].
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
            return str(i), self._hash(i)

        return in_order(work, range(self.count()), workers)

    def decoded(
        self, *, size: int, channels: int, fit: str, workers: int | None = None
    ) -> Generator[Decoded, None, None]:
        to_uint8 = _scaling(self._images, self.root)

        def work(i: int) -> Decoded:
            pixels = np.ascontiguousarray(to_uint8(self._images[i]))
            result = from_array(pixels, size=size, channels=channels, fit=fit)
            return str(i), result, self._hash(i)

        yield from in_order(work, range(self.count()), workers)

    @cached_property
    def _images(self) -> NDArray[Any]:
        """(N, H, W, C), memory-mapped where the file allows."""
        try:
            is_torch = self.root.suffix.lower() == ".pt"
            array = _torch_array(self.root) if is_torch else _numpy_array(self.root)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                "`data.root` must be an array that can be read without running code, but "
                f"{self.root} gives: {error}"
            ) from error
        return _channels_last(array, self.root)

    def _hash(self, i: int) -> str:
        image = self._images[i]
        kind = f"{image.dtype.str} {image.shape} ".encode()
        return hashlib.blake2b(kind + image.tobytes(), digest_size=16).hexdigest()


def _numpy_array(path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".npz":
        _refuse_swollen(check_npz(path), path)
    else:
        with path.open("rb") as file:
            check_npy(file, path.stat().st_size)
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return np.asarray(_chosen(loaded, path))


def _torch_array(path: Path) -> NDArray[Any]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(first_line) from error
    tensor = _chosen(loaded, path) if isinstance(loaded, Mapping) else loaded
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}, not a tensor")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError("it holds a sparse or quantized tensor; save a dense one")
    _refuse_swollen(tensor.numel() * tensor.element_size(), path)
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.detach().resolve_conj().resolve_neg().numpy()
    return array


def _refuse_swollen(total: int, path: Path) -> None:
    size = path.stat().st_size
    if swells(total, size):
        raise UserError(
            f"a file of arrays must not swell more than {MAX_RATIO} times, but {path} of "
            f"{size:,} bytes swells to {total:,}, a decompression bomb"
        )


def _chosen(arrays: Mapping[str, Any], path: Path) -> Any:
    names = list(arrays)
    if len(names) == 1:
        return arrays[names[0]]
    for name in _PREFERRED:
        if name in names:
            return arrays[name]
    raise UserError(
        f"{path} must hold one array, or one called {', '.join(_PREFERRED)}, but got {names[:20]}"
    )


def _channels_last(images: NDArray[Any], path: Path) -> NDArray[Any]:
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.size:
        last, first = images.shape[3] in _CHANNELS, images.shape[1] in _CHANNELS
        # With both, what is a strip of a few rows in one order is a picture in the other.
        if first and (not last or images.shape[2] not in _CHANNELS):
            return images.transpose(0, 2, 3, 1)
        if last:
            return images
    raise UserError(
        "an array of images must be (N, H, W, C), (N, C, H, W) or (N, H, W) with 1, 3 or 4 "
        f"channels and N above 0, but {path} is {shape}"
    )


def _scaling(images: NDArray[Any], path: Path) -> ToUint8:
    """The function that brings images of this type to uint8.

    Raises:
        UserError: the values are not integers in [0, 255] or [0, 65535] (uint16), nor floats
            in [0, 1].
    """
    if images.dtype == np.bool_:
        return lambda image: image.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iuf":
        raise UserError(f"an array of images must hold numbers, but {path} holds {images.dtype}")
    # NaN is carried on by both, and is neither below nor above anything.
    low = float(np.min([image.min() for image in images]))
    high = float(np.max([image.max() for image in images]))
    top = {"uint16": 65535}.get(images.dtype.name, 255) if images.dtype.kind in "iu" else 1
    if not (low >= 0 and high <= top):
        remedy = "replace NaN" if np.isnan(low + high) else "scale them"
        raise UserError(
            f"images of type {images.dtype} must lie in [0, {top}], but those of {path} lie in "
            f"[{low:g}, {high:g}]; {remedy} and save the file again"
        )
    if top == 255 and high <= 1:
        log.warning("%s holds integers but none above 1 of 255: its images are black", path)
    if images.dtype == np.uint8:
        return lambda image: image
    return lambda image: np.round(image.astype(np.float64) * (255 / top)).astype(np.uint8)
