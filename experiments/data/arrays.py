"""Images in one array: .npy, .npz or a tensor in .pt."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.decode import from_array
from experiments.data.sources import OneFile, Result
from experiments.errors import UserError

_CHANNELS = (1, 3, 4)
_PREFERRED = ("images", "x", "arr_0", "data")


class ArrayFile(OneFile):
    """N images (N, H, W, C), (N, C, H, W) or (N, H, W), as integers or as floats in [0, 1]."""

    def decoded(
        self, *, size: int, channels: int, fit: str, progress: bool
    ) -> Iterator[tuple[str, Result]]:
        images = _channels_last(self._load(), self.root)
        to_uint8 = _scaling(images, self.root)
        for i in range(len(images)):
            pixels = np.ascontiguousarray(to_uint8(images[i]))
            yield f"{i}", from_array(pixels, size=size, channels=channels, fit=fit)

    def _load(self) -> NDArray[Any]:
        try:
            if self.root.suffix == ".pt":
                return _torch_tensor(self.root)
            loaded = np.load(self.root, mmap_mode="r", allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return np.asarray(_chosen(loaded, self.root))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"`data.root` must be an array that can be read without running code, but "
                f"{self.root} gives: {error}"
            ) from error


def _torch_tensor(path: Path) -> NDArray[Any]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, KeyError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(first_line) from error
    tensor = _chosen(loaded, path) if isinstance(loaded, Mapping) else loaded
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}, not a tensor")
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.detach().numpy()


def _chosen(arrays: Mapping[str, Any], path: Path) -> Any:
    names = list(arrays)
    if len(names) == 1:
        return arrays[names[0]]
    for name in _PREFERRED:
        if name in names:
            return arrays[name]
    raise UserError(
        f"{path} must hold one array, or one called {', '.join(_PREFERRED)}, but got {names}"
    )


def _channels_last(images: NDArray[Any], path: Path) -> NDArray[Any]:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and len(images):
        last, first = images.shape[3] in _CHANNELS, images.shape[1] in _CHANNELS
        if last and not first:
            return images
        if first and not last:
            return images.transpose(0, 2, 3, 1)
        if last and first and images.shape[2] not in _CHANNELS:
            # (N, 1 or 3 or 4, W, C): a strip of a few rows is no picture, so channels come first.
            return images.transpose(0, 2, 3, 1)
        if last and first:
            return images
    raise UserError(
        "an array of images must be (N, H, W, C), (N, C, H, W) or (N, H, W) with 1, 3 or 4 "
        f"channels and N above 0, but {path} is {images.shape}"
    )


def _scaling(images: NDArray[Any], path: Path) -> Any:
    """The function that brings images of this type to uint8.

    Raises:
        UserError: the values are not integers in [0, 255] or [0, 65535] (uint16), nor floats
            in [0, 1].
    """
    if images.dtype in (np.uint8, np.bool_):
        factor = 255 if images.dtype == np.bool_ else 1
        return lambda image: (image * np.uint8(factor)).astype(np.uint8)
    if images.dtype == np.uint16:
        return lambda image: np.round(image / 257).astype(np.uint8)
    if images.dtype.kind not in "iuf":
        raise UserError(f"an array of images must hold numbers, but {path} holds {images.dtype}")
    # A NaN is neither below nor above, so ask what holds rather than what fails.
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    whole = images.dtype.kind in "iu"
    top = 255 if whole else 1
    bad = not (low >= 0 and high <= top) or any(not np.isfinite(image).all() for image in images)
    if bad:
        raise UserError(
            f"images of {images.dtype} must lie in [0, {top}] and be finite, but those of {path} "
            f"lie in [{low:g}, {high:g}] or hold NaN"
        )
    scale = 1 if whole else 255
    return lambda image: np.round(image.astype(np.float64) * scale).astype(np.uint8)
