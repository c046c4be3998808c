"""What an image carries beside its pixels may be huge or broken: the pixels count all the same."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from experiments.data.decoding.decode import BadImageError, decode, quiet

_PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
_HUGE = "x" * 3_000_000  # bytes, a few thousand when compressed
_MANY = "x" * 70_000_000


def _encoded(fmt: str = "PNG", turned: int = 0, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(np.rot90(_PIXELS, turned))
    Image.fromarray(pixels).save(buffer, fmt, **options)
    return buffer.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with quiet():
        return decode(data, size=16, channels=3, fit="crop").transpose(1, 2, 0)


def _text(*, after: bool = False, plain: str = "", **texts: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if plain:
        info.add_text("plain", plain)
    for kind, text in texts.items():
        if after:
            packed = kind.encode() + b"\0\0" + zlib.compress(text.encode())
            info.add(b"zTXt", packed, after_idat=True)
        elif kind == "international":
            info.add_itxt("workflow", text, zip=True)
        else:
            info.add_text("workflow", text, zip=True)
    return info


def _chunk(kind: bytes, content: bytes, *, wrong: int = 0) -> bytes:
    checksum = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _with_chunk(data: bytes, chunk: bytes) -> bytes:
    return data[:33] + chunk + data[33:]  # after the header


@pytest.mark.parametrize(
    "options",
    [
        {"pnginfo": _text(compressed=_HUGE)},
        {"pnginfo": _text(international=_HUGE)},
        {"pnginfo": _text(compressed=_HUGE, after=True)},
        {"pnginfo": _text(plain=_MANY)},
        {"icc_profile": _HUGE.encode()},
    ],
    ids=["zTXt", "iTXt", "after the pixels", "plain", "profile"],
)
def test_a_png_with_huge_texts_or_profiles_is_read(options: dict[str, Any]) -> None:
    assert np.array_equal(_decoded(_encoded(**options)), _PIXELS)


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(b"pHYs", b"\0" * 9, wrong=1),
        _chunk(b"tEXt", b"no end of the keyword", wrong=1),
        _chunk(b"iCCP", b"name\0\7"),
        _chunk(b"eXIf", b"MM\0*", wrong=1),
        _chunk(b"acTL", b"\0"),
        _chunk(b"cHRM", b"\0"),
        _chunk(b"gAMA", b""),
        _chunk(b"pHYs", b""),
        _chunk(b"zTXt", b"key\0\0not compressed"),
    ],
)
def test_a_png_with_a_broken_chunk_that_its_pixels_do_not_need_is_read(chunk: bytes) -> None:
    assert np.array_equal(_decoded(_with_chunk(_encoded(), chunk)), _PIXELS)


def test_a_png_that_ends_with_its_pixels_is_read() -> None:
    assert np.array_equal(_decoded(_encoded()[:-12]), _PIXELS)


@pytest.mark.parametrize("how", ["EXIF", "XMP"])
def test_a_png_with_huge_text_is_still_turned_upright(how: str) -> None:
    info = _text(compressed=_HUGE)
    options: dict[str, Any] = {"pnginfo": info}
    if how == "EXIF":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    else:
        info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="6"/>')
    assert np.array_equal(_decoded(_encoded(turned=1, **options)), _PIXELS)


def test_what_is_transparent_stays_so_beside_huge_text() -> None:
    palette = Image.new("P", (16, 16))
    palette.putpalette([10, 20, 30])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0, pnginfo=_text(compressed=_HUGE))
    assert (_decoded(buffer.getvalue()) == 255).all()


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _exif(*tags: tuple[int, int, int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize(
    "segment",
    [
        _segment(0xE2, b"ICC_PROFILE\0"),
        _segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
        _segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0"),
        _segment(0xEE, b"Adobe"),
        _segment(0xE0, b"JFIF\0"),
        _segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<"),
        _segment(0xE2, b"ICC_PROFILE\0\1\x28" + b"\0" * 60_000),
    ],
)
def test_a_jpeg_with_broken_application_data_is_read(segment: bytes) -> None:
    data = _encoded("JPEG")
    expected = _decoded(data)
    assert np.array_equal(_decoded(data[:2] + segment + data[2:]), expected)


@pytest.mark.parametrize(
    "odd",
    [(0x010F, 12, 1, 0), (0x0132, 5, 1, 26), (0x8769, 4, 1, 2**32 - 1), (0x927C, 9, 2, 8)],
)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_an_odd_tag_beside_the_orientation_does_no_harm(
    fmt: str, odd: tuple[int, int, int, int]
) -> None:
    exif = _exif((0x0112, 3, 1, 6), odd)
    data = _encoded(fmt, turned=1)
    if fmt == "PNG":
        turned = _with_chunk(data, _chunk(b"eXIf", exif))
    else:
        turned = data[:2] + _segment(0xE1, b"Exif\0\0" + exif) + data[2:]
    assert np.array_equal(_decoded(turned), np.rot90(_decoded(data), -1))


def test_no_bomb_gets_through_with_its_text() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    text = _chunk(b"zTXt", b"key\0\0" + zlib.compress(_HUGE.encode()))
    chunks = [_chunk(b"IHDR", header), text, _chunk(b"IDAT", zlib.compress(b"\0" * 1000))]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")
    with pytest.raises(BadImageError, match="too large"):
        _decoded(bomb)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_broken_pixels_stay_broken_and_the_reason_is_theirs(fmt: str) -> None:
    data = _encoded(fmt, comment="hello") if fmt == "JPEG" else _encoded(pnginfo=_text(plain="hi"))
    with pytest.raises(BadImageError, match=r"(?i)trunc"):
        _decoded(data[: len(data) * 2 // 3])
