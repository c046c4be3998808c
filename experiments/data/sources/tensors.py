"""Arrays out of files that may hold more than one, or something else: .pt, and .npz."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from experiments.data.sources.archives import MAX_RATIO
from experiments.errors import UserError
from experiments.record.checkpoint import load_tensors

_PREFERRED = ("images", "imgs", "x", "data", "arr_0")
_WEIGHTS = (".weight", ".bias", "state_dict")
_HARMLESS_BYTES = 2**27
_SHOWN = 20  # names in a message
_SAVE = "save the pictures as one tensor (N, C, H, W): torch.save(images, 'images.pt')"
_SAVE_DATASET = (
    "save the pictures of a dataset as one tensor: "
    "torch.save(torch.stack([dataset[i][0] for i in range(len(dataset))]), 'images.pt')"
)


def tensor_file(path: Path) -> NDArray[Any]:
    """The array of images in a file of `torch.save`.

    Raises:
        ValueError: it cannot be read without running code, or holds something else.
        UserError: it holds several tensors, or is a decompression bomb.
    """
    import torch

    loaded = _loaded(path)
    if isinstance(loaded, list | tuple):
        loaded = {f"[{i}]": value for i, value in enumerate(loaded)}
        if _is_list_of_pictures(loaded):
            raise ValueError(
                f"it holds a list of {len(loaded)} pictures; save torch.stack of them: "
                "torch.save(torch.stack(pictures), 'images.pt')"
            )
    tensor = chosen(loaded, path) if isinstance(loaded, Mapping) else loaded
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it holds a {type(tensor).__name__}, not a tensor; {_SAVE}")
    needed, most = tensor.numel() * tensor.element_size(), most_unpacked(path)
    if needed > most:
        raise ValueError(f"its values repeat to {needed:,} bytes, more than {most:,}")
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.detach().resolve_conj().resolve_neg().numpy()
    return array


def chosen(arrays: Mapping[str, Any], path: Path) -> Any:
    """The array that holds the images: by its name, or the only one that has their shape.

    Raises:
        UserError: there are none or several.
    """
    names = [str(name) for name in arrays]
    if any(name.endswith(_WEIGHTS) or name in ("weight", "bias") for name in names):
        raise UserError(
            f"{path} must hold images, but got the weights of a model ({_listed(arrays)}); {_SAVE}"
        )
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for name in _PREFERRED:
        if name in arrays:
            return arrays[name]
    alike = [value for value in arrays.values() if len(_shape(value)) >= 3]
    if len(alike) == 1:
        return alike[0]
    raise UserError(
        f"{path} must hold one array, or one called {', '.join(_PREFERRED)}, but got "
        f"{_listed(arrays) or 'none'}; save the images alone, or under one of these names"
    )


def most_unpacked(path: Path) -> int:
    """Bytes up to which a file of arrays may swell; above it is a decompression bomb."""
    return max(_HARMLESS_BYTES, MAX_RATIO * path.stat().st_size)


def _loaded(path: Path) -> Any:
    """What the file holds; never by running code of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_tensors(path)
    except pickle.UnpicklingError as error:
        raise ValueError(_unpicklable(str(error))) from error
    except ValueError as error:
        raise ValueError(f"{error}; {_SAVE}") from error


def _unpicklable(message: str) -> str:
    """Which class is in the way, and what to save instead.

    PyTorch's own message advises to run the file's code.
    """
    found = re.search(r"(?:GLOBAL|class) ([\w.]+)", message)
    if found is None:
        return f"it is no whole file of torch.save; {_SAVE}"
    if found[1].startswith("torch._utils."):
        return "it holds a tensor that is not dense, but sparse or quantized, say; save a dense one"
    if found[1].startswith("numpy."):
        return (
            "it holds a NumPy array in a file of torch.save; save it with "
            "np.save('images.npy', images), or torch.from_numpy(images) as it is saved now"
        )
    return f"it holds objects of {found[1]}, which only code can make; {_SAVE_DATASET}"


def _is_list_of_pictures(values: Mapping[str, Any]) -> bool:
    shapes = [_shape(value) for value in values.values()]
    return len(shapes) > 1 and len(set(shapes)) == 1 and len(shapes[0]) in (2, 3)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _listed(arrays: Mapping[str, Any]) -> str:
    """Names and shapes, or types of what has none."""
    shown = [
        f"{name} {_shape(value) if hasattr(value, 'shape') else type(value).__name__}"
        for name, value in list(arrays.items())[:_SHOWN]
    ]
    more = len(arrays) - _SHOWN
    return ", ".join([*shown, f"and {more} more"] if more > 0 else shown)
