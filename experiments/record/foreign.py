"""Files of arrays and weights that may be somebody else's: read without running what they hold.

What a file says of its sizes is compared with what it has before any memory is asked for.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BYTES = 2**30  # of the small arrays in a record


def check_npy(file: IO[bytes], size: int) -> None:
    """Refuse an array that declares more than there is; `np.load` itself refuses Python objects.

    Args:
        file: at its beginning.
        size: bytes that it has, uncompressed.

    Raises:
        ValueError: it does, or is no array.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        return
    declared = math.prod(shape) * dtype.itemsize
    if declared > size:
        raise ValueError(f"it declares {declared:,} bytes of {shape}, but has {size:,}")


def check_npz(path: Path) -> int:
    """Check all arrays of an .npz as `check_npy` does; returns their bytes, uncompressed.

    Raises:
        ValueError: one is refused.
        zipfile.BadZipFile: it is no such file.
    """
    total = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            total += info.file_size
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    check_npy(member, info.file_size)
    return total


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz of a record.

    Raises:
        ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile: it cannot be read so.
    """
    total = check_npz(path)
    if total > _MOST_BYTES:
        raise ValueError(f"it holds {total:,} bytes, more than {_MOST_BYTES:,}")
    # NumPy would leave a broken file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of PyTorch holds, if that is tensors and plain values.

    Raises:
        ValueError: it holds anything else, cannot be read, or its tensors are larger than the file.
        OSError: it cannot be opened.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch stores without compression; older formats declare sizes that nobody checks.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is a compressed archive, which PyTorch does not write")
            # PyTorch writes check sums, but does not compare them when it reads.
            if damaged := archive.testzip():
                raise ValueError(f"its part {damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than tensors and plain values") from error
    # What PyTorch's reader and unpickler make of broken bytes.
    except (
        zipfile.BadZipFile, RuntimeError, EOFError, KeyError, TypeError, AttributeError,
        IndexError, ImportError, OverflowError, MemoryError, AssertionError,
    ) as error:  # fmt: skip
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"it cannot be read ({first_line})") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    state = content.get("state_dict")
    check_tensors(state.values() if isinstance(state, dict) else (), path)
    return content


def check_tensors(tensors: Iterable[Any], path: Path) -> None:
    """Refuse tensors that are larger than their file: views that repeat a few values.

    Raises:
        ValueError: they are.
    """
    import torch

    held: list[Tensor] = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in held)
    if needed > path.stat().st_size:
        raise ValueError(f"its tensors need {needed:,} bytes, more than the file has")
