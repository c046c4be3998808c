"""Files of arrays and plain values that may be somebody else's: read without running anything.

What a file says of its sizes is compared with what it has before any memory is asked for.
"""

from __future__ import annotations

import json
import math
import stat
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_JSON = 2**26  # bytes: a record has some kilobytes
_MOST_DEPTH = 64  # of JSON within JSON
_MOST_ARRAYS = 2**27  # bytes of the arrays in a record: one number an image and metric
_MOST_MEMBERS = 1000  # of an .npz


def check_regular(path: Path) -> int:
    """The bytes of a file; a pipe, which would be waited for, or a device, without end, is none.

    Raises:
        OSError: it is no regular file, or cannot be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is no regular file")
    return found.st_size


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        ValueError: it has more.
        OSError: it cannot be read.
    """
    size = check_regular(path)
    if size > most:
        raise ValueError(f"it has {size:,} bytes, more than {most:,}")
    return path.read_bytes()


def read_json(path: Path, most: int = _MOST_JSON) -> Any:
    """The JSON in a regular file, as `parsed` reads it.

    Raises:
        ValueError: there is none, it is too deep or too large, or holds what is no text.
        OSError: it cannot be read.
    """
    return parsed(read_bytes(path, most))


def parsed(text: bytes | str) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, is nested so deeply that nobody could walk through it, or holds
            text that is none (half of a surrogate pair).
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [content]
    for _ in range(_MOST_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and not value.isascii():
                value.encode()
        if not inner:
            return content
        level = inner
    raise ValueError("it is nested too deeply")


def check_npy(file: IO[bytes], size: int) -> None:
    """Refuse an array that declares more than there is; `np.load` itself refuses Python objects.

    Args:
        file: at its beginning.
        size: bytes that it has, uncompressed.

    Raises:
        ValueError: it does, or is no array.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except (SyntaxError, TypeError, tokenize.TokenError, MemoryError, RecursionError) as error:
        raise ValueError(f"its header cannot be read ({first_line(error)})") from error
    if dtype.hasobject:
        return
    declared = math.prod(shape) * dtype.itemsize
    if declared > size or min(shape, default=0) < 0:
        raise ValueError(f"it declares {declared:,} bytes of {shape}, but has {size:,}")


def check_npz(path: Path, most: int) -> None:
    """Check all arrays of an .npz as `check_npy` does, before anything is unpacked.

    Raises:
        ValueError: one is refused, or together they have more than `most` bytes, uncompressed.
        zipfile.BadZipFile: it is no such file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(info.file_size for info in members)
        if total > most or len(members) > _MOST_MEMBERS:
            raise ValueError(
                f"its {len(members):,} arrays have {total:,} bytes unpacked, more than {most:,}"
            )
        for info in members:
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    check_npy(member, info.file_size)


def read_npz(path: Path, kinds: str = "biuf") -> dict[str, NDArray[Any]]:
    """The arrays in an .npz of a record.

    Args:
        path: of the file.
        kinds: of the arrays, as NumPy's `dtype.kind` has them; others are refused.

    Raises:
        ValueError: it cannot be read so.
        OSError: it cannot be opened.
    """
    import numpy as np

    check_regular(path)
    try:
        check_npz(path, _MOST_ARRAYS)
        # NumPy would leave a broken file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    # What zipfile and NumPy make of broken bytes.
    except (
        zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError, NotImplementedError,
        TypeError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"it cannot be read ({first_line(error)})") from error
    if not all(isinstance(a, np.ndarray) and a.dtype.kind in kinds for a in arrays.values()):
        raise ValueError("it holds more than what it should")
    return arrays


def first_line(error: BaseException) -> str:
    """The first line of what an error says, and its name where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
