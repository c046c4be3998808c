"""Images that mean no good: few bytes that are many pixels, or much work."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def noise(rng: random.Random, side: int = 48) -> Image.Image:
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (side, side, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, colour: int, depth: int, *others: bytes, rows: int = 0) -> bytes:
    """A PNG of zeros; with fewer `rows` than it declares if that is given."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + width * samples * depth // 8)
    data = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + chunk(b"IDAT", data) + _END


_END = chunk(b"IEND", b"")


@functools.cache
def large(what: str) -> bytes:
    """Few bytes that are many pixels; made once."""
    if what == "RGBA":
        return png(5800, 5777, 6, 8)
    if what == "RGB":
        return png(6300, 6300, 2, 8)
    if what == "16 bits":
        return png(6300, 6300, 0, 16)
    if what == "LA":
        return png(5800, 5777, 4, 8)
    if what == "palette":
        return png(6300, 6300, 3, 8, chunk(b"PLTE", b"\0\0\0"), chunk(b"tRNS", b"\0"))
    if what == "WEBP":
        return saved(Image.new("RGBA", (6000, 6000)), "WEBP", lossless=True, method=0)
    if what == "GIF":
        return saved(Image.new("P", (6000, 6000)), "GIF", transparency=0)
    if what == "TIFF":
        return saved(Image.new("I", (5000, 5000)), "TIFF", compression="tiff_lzw")
    if what == "HEIF":
        return saved(Image.new("RGBA", (3000, 3000)), "HEIF", quality=10)
    return saved(Image.new("RGBA", (3000, 3000)), "AVIF", speed=10)


@functools.cache
def progressive(width: int, height: int, scans: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    data = saved(Image.new("L", (width, height), 128), "JPEG", progressive=True, quality=50)
    end = data.rindex(b"\xff\xd9")
    last = data[data.rindex(b"\xff\xda", 0, end) : end]
    return data[:end] + last * scans + data[end:]


@functools.cache
def swelling() -> bytes:
    """Text of 50 MB, in 50 kB."""
    return zlib.compress(b"A" * 50_000_000, 9)
