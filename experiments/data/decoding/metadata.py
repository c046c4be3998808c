"""What an encoded image carries beside its pixels, which must not cost the pixels when it is odd.

A PNG may hold megabytes of compressed text (workflows of image generators, say), which Pillow
refuses, since they may be a decompression bomb; and any part of the metadata may be broken.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp\0"
_MOST_XMP = 2**16  # bytes; it says which way is up in far fewer
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, EOFError,
    ArithmeticError, struct.error,
)  # fmt: skip


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; as it is where there is none that can be read.

    `PIL.ImageOps.exif_transpose` also writes the EXIF data anew, and fails where another tag of it
    is odd.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return image
    method = _TRANSPOSED.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def without_metadata(data: bytes) -> bytes | None:
    """The file with only what its pixels need, and says which way is up; None if that is all of it.

    Nothing is decompressed. Known of JPEG and PNG.
    """
    if data.startswith(_PNG):
        bare = _PNG + b"".join(_png_chunks(data))
    elif data.startswith(b"\xff\xd8"):
        bare = b"\xff\xd8" + b"".join(_jpeg_segments(data))
    else:
        return None
    return bare if len(bare) < len(data) else None


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Critical chunks, transparency, and orientation where its checksum is right (PNG, 5.3)."""
    start = len(_PNG)
    while start < len(data):
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        chunk = data[start:end]
        is_orientation = kind == b"eXIf" or (
            kind == b"iTXt" and chunk[8:].startswith(_XMP) and len(chunk) <= _MOST_XMP
        )
        is_whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind[:1].isupper() or kind == b"tRNS" or (is_orientation and is_whole):
            yield chunk
        start = end


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """All but comments and application data without a meaning for pixels (ISO/IEC 10918-1, B.1)."""
    start = 2
    while data[start : start + 1] == b"\xff" and start + 4 <= len(data):
        marker = data[start + 1]
        if marker == 0xDA or not 0xC0 <= marker <= 0xFE:  # the scan begins, or it is broken
            break
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _tells(marker, data[start + 4 : end]):
            yield data[start:end]
        start = end
    yield data[start:]


def _tells(marker: int, content: bytes) -> bool:
    """Whether application data says which way is up (EXIF), or what the colours are (Adobe)."""
    is_exif = marker == 0xE1 and content.startswith(b"Exif\0\0")
    return is_exif or (marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12)
