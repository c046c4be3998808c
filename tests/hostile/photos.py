"""What somebody calls a photo."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from random import Random

from tests.hostile.files import Made, kind


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(
            ">I", zlib.crc32(name + content)
        )  # fmt: skip

    size = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@kind
def no_photos(folder: Path, honest: Path, random: Random) -> Made:
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    made = {
        "empty": b"",
        "text": b"hello",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "wide": _png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
        "a bomb": _png(13_000, 13_000, zlib.compress(bytes(2**20))),
        "no pixels": _png(0, 0, b""),
        "cut": _png(64, 64, zlib.compress(bytes(64 * 257)))[:-40],
        "noise": random.randbytes(5000),
        "a jpeg of noise": b"\xff\xd8\xff\xe0" + random.randbytes(5000),
        "a gif of noise": b"GIF89a" + random.randbytes(500),
        "a tiff that leads to itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "\x1b]0;owned\x07": b"hello",
    }
    for name, data in made.items():
        (folder / f"{name}.png").write_bytes(data)
    for name in ["pipe", "folder", "sparse", *made]:
        yield f"{name!r}", "generate", f"{honest}|{folder / name}.png"
    for device in (
        "/dev/zero",
        "/dev/null",
        "/dev/full",
        "seed:-1",
        "seed:99999999999999999999999999",
    ):
        yield device, "generate", f"{honest}|{device}"
