"""Photos to pixels, in a process that can be killed: `python -m serving.api.decoder`.

What a photo costs can only be bounded from outside, since no thread can be made to stop. The kernel
bounds this process' memory and the processor's time for each photo; its parent ends it whenever it
likes. It knows the decoder and no network, so it starts fast and is small.

A request is the photo's length and the photo; an answer a kind, a length and the pixels or why
there are none.
"""

from __future__ import annotations

import argparse
import io
import resource
import signal
import struct
import sys
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from PIL import AvifImagePlugin, Image, UnidentifiedImageError
from pillow_heif import options as heif

from experiments.data.decoding.decode import (
    FORMATS,
    BadImageError,
    decode,
    quiet,
)

LENGTH = struct.Struct(">Q")
ANSWER = struct.Struct(">cQ")

_SCANNED = 10**9
"""Scans of a progressive JPEG times its pixels: each scan may visit every one of them."""
_BYTES = {"L": 4, "RGB": 8}
_MOST_BYTES = 16
"""Memory for a pixel that is decoded whole, by its mode: four bytes, and copies made on the way."""
_COEFFICIENTS = 6
"""Memory for a pixel of a progressive JPEG, which is kept as numbers of 16 bits until its end."""
_DRAFT = 4  # as `decode` has it
_DOUBT = 4  # times what is forecast; a decoder that fails above it may have lacked memory
_UNKNOWN = 2**63  # bytes: more than there are


class Kind(Enum):
    """What an answer holds."""

    PIXELS = b"P"
    REFUSED = b"R"
    TOO_MUCH = b"M"
    """It needs more memory than this process may take."""


def serve(requests: BinaryIO, answers: BinaryIO, arguments: argparse.Namespace) -> None:
    """Answer one request after the other, until there are no more."""
    while head := requests.read(LENGTH.size):
        data = requests.read(LENGTH.unpack(head)[0])
        # Of the processor, so that a busy machine refuses no photo; at its end the process dies.
        signal.setitimer(signal.ITIMER_PROF, arguments.seconds)
        kind, content = _answer(data, arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del data
        answers.write(ANSWER.pack(kind.value, len(content)) + content)
        answers.flush()


def _answer(data: bytes, arguments: argparse.Namespace) -> tuple[Kind, bytes]:
    size, channels = arguments.size, arguments.channels
    needed, room = 0, arguments.mebibytes * 2**20
    try:
        needed = _needed(data, size, arguments.max_pixels)
        if arguments.forecast and needed > room:
            return Kind.TOO_MUCH, b""
        pixels = decode(data, size=size, channels=channels, fit=arguments.fit)
        return Kind.PIXELS, pixels.tobytes()
    except MemoryError:
        return Kind.TOO_MUCH, b""
    except BadImageError as error:
        # Which `decode` makes of anything, as decoders do of missing memory.
        doubt = _DOUBT if arguments.forecast else 1  # which the process for large ones settles
        may_lack = room < doubt * needed and needed != _UNKNOWN
        if isinstance(error.__cause__, MemoryError) or may_lack:
            return Kind.TOO_MUCH, b""
        told = str(error)[:500]
        if needed == _UNKNOWN:
            told += f"; it is broken, or needs more than {arguments.mebibytes} MiB to be decoded"
        return Kind.REFUSED, told.encode(errors="backslashreplace")


def _needed(data: bytes, size: int, max_pixels: int) -> int:
    """Bytes of memory that the photo takes, by its header; 0 where it has none.

    `_UNKNOWN` where the header cannot be read: WebP's reader takes memory for that, and does not
    say whether it lacked some.

    Scans of a JPEG cost time as pixels do, and count for as much.

    Raises:
        BadImageError: its header declares more than is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
            image.draft(None, (_DRAFT * size, _DRAFT * size))
            drafted = image.width * image.height
            progressive = image.info.get("progressive")
            each = _BYTES.get(image.mode, _MOST_BYTES)
    except (UnidentifiedImageError, Image.DecompressionBombError):  # `decode` says so
        return 0
    except Exception:  # noqa: BLE001 - Pillow's readers answer broken data with any
        return _UNKNOWN
    if pixels > max_pixels:
        raise BadImageError(f"it has {pixels:,} pixels, and {max_pixels:,} are allowed")
    if not progressive:
        return drafted * each
    scans = _scans(data, _SCANNED // max(1, pixels))
    if scans * pixels > _SCANNED:
        raise BadImageError(
            f"it has {scans} or more scans of {pixels:,} pixels each, which would take too long; "
            "save it as a JPEG that is not progressive"
        )
    return pixels * _COEFFICIENTS + drafted * each + scans * pixels // 4


def _scans(data: bytes, most: int) -> int:
    """Scans of a JPEG's first image, counted to one above `most` (ISO/IEC 10918-1, B.1.1)."""
    scans, at = 0, 2
    while scans <= most:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data) or data[at + 1] == 0xD9:
            break
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD7:  # no marker, or without content
            at += 2 - (marker == 0xFF)
            continue
        scans += marker == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans


def _limit_memory(mebibytes: int) -> None:
    """Let this process take so much more than it has; no core is left if it dies."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.is_file():  # Linux, which is the one that keeps it
        own = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        most = own + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("size", "channels", "max-pixels", "max-bytes", "mebibytes", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--fit", required=True)
    parser.add_argument("--forecast", action="store_true", help="try none that may need more")
    arguments = parser.parse_args()
    heif.DECODE_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is the limit
    Image.preinit()
    _limit_memory(arguments.mebibytes + arguments.max_bytes // 2**20 + 8)
    with quiet():
        serve(sys.stdin.buffer, sys.stdout.buffer, arguments)


if __name__ == "__main__":
    main()
