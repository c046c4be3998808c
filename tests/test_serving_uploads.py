"""Photos as people send them are taken, whatever is none is refused, and the service lives on."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.services import Service, run_service

FORM = "multipart/form-data; boundary=x"
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = ("--max-megapixels", "1", "--max-mebibytes", "1")
    with run_service(trained, tmp_path_factory.mktemp("uploads"), *limits) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header declares a size, with few pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def photos() -> Iterator[tuple[str, bytes]]:
    """Uploads that are images, however odd."""
    frames = [noise(), noise().rotate(180)]
    animated = {"save_all": True, "append_images": frames[1:]}
    deep = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    turned = Image.Exif()
    turned[0x0112] = 6
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG of mode {mode}", saved(noise(mode), "PNG")
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        yield f"{kind} of two frames", saved(frames[0], kind, **animated)
    for mode in ("L", "CMYK", "YCbCr"):
        yield f"JPEG of mode {mode}", saved(noise(mode), "JPEG")
    for mode in ("1", "L", "CMYK", "LAB", "RGBA"):
        yield f"TIFF of mode {mode}", saved(noise(mode), "TIFF")
    yield "PNG of 16 bits", saved(deep, "PNG")
    yield "TIFF of 16 bits", saved(deep, "TIFF")
    floats = Image.fromarray(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40))
    yield "TIFF of floats", saved(floats, "TIFF")
    yield "TIFF with LZW", saved(noise(), "TIFF", compression="tiff_lzw")
    yield "progressive JPEG", saved(noise(), "JPEG", progressive=True)
    yield "turned JPEG", saved(noise(), "JPEG", exif=turned)
    yield "transparent palette", saved(noise("P"), "PNG", transparency=0)
    yield "one pixel", saved(noise(size=(1, 1)), "PNG")
    yield "a line", saved(noise(size=(5000, 1)), "PNG")
    # Whose text is never unpacked.
    text = zlib.compress(b"A" * 80_000_000, 9)
    for name, head in ((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")):
        yield f"{name.decode()} that swells", png(8, 8, chunk(name, head + text))
    yield "a photo that is an archive, too", saved(noise(), "GIF") + b"PK\x03\x04" + b"\0" * 99
    yield "a photo with a script after it", saved(noise(), "JPEG") + b"<script>alert(1)</script>"


@pytest.mark.slow
@pytest.mark.parametrize(("what", "data"), [pytest.param(*p, id=p[0]) for p in photos()])
def test_an_odd_photo_is_taken(client: httpx.Client, what: str, data: bytes) -> None:
    answer = client.post("/v1/encode", files={"photos": ("photo", data)})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["mean"][0]) == 4


def too_large() -> Iterator[tuple[str, bytes]]:
    """Few bytes that would be many pixels, or much memory."""
    for side in (1001, 30_000, 2**31 - 1):
        yield f"PNG {side}", png(side, side)
        yield f"PNG {side} and archive", png(side, side) + b"PK\x03\x04" + b"\0" * 100
    yield "PNG of one long line", png(2_000_000, 1)
    yield "true PNG", saved(Image.new("L", (1200, 1200)), "PNG")
    yield "true GIF", saved(Image.new("L", (1200, 1200)), "GIF")
    yield "true WEBP", saved(Image.new("L", (1200, 1200)), "WEBP")
    yield "true TIFF", saved(Image.new("L", (9000, 9000)), "TIFF", compression="tiff_lzw")
    gif = saved(noise(), "GIF")
    yield "GIF", gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:]
    bmp = saved(noise(), "BMP")
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (50_000, 50_000)):
        yield f"BMP {width}", bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]
    jpeg = saved(noise(), "JPEG")
    start = jpeg.index(b"\xff\xc0") + 5
    yield "JPEG", jpeg[:start] + struct.pack(">HH", 65500, 65500) + jpeg[start + 4 :]


def others() -> Iterator[tuple[str, bytes]]:
    """Files of other types, some that pretend to be images."""
    for kind in ("PPM", "TGA", "ICO", "PCX", "SGI", "EPS", "PDF", "MPO", "DDS", "JPEG2000"):
        if kind != "MPO":  # which is a JPEG
            yield f"an image of type {kind}", saved(noise(), kind)
    beginnings = (
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?php system('id'); ?>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"PK\x03\x04",
        b"GIF89a",
        b"MZ",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\0\0\0\0WEBP",
        b"",
    )
    for beginning in beginnings:
        for tail in (b"", b"\0" * 50, b"<script>alert(1)</script>", saved(noise(), "PNG")[:40]):
            yield f"{beginning!r} and {len(tail)} bytes", beginning + tail
    floats = np.linspace(-9, 9, 100, dtype=np.float32).reshape(10, 10)
    yield "floats of any size", saved(Image.fromarray(floats), "TIFF")
    floats[0] = np.nan
    yield "floats that are none", saved(Image.fromarray(floats), "TIFF")
    integers = np.full((10, 10), 2**30, dtype=np.int32)
    yield "integers of 32 bits", saved(Image.fromarray(integers), "TIFF")


def malformed() -> Iterator[tuple[str, bytes]]:
    """More than two hundred uploads that are no photos."""
    rng = random.Random(0)
    for kind in KINDS:
        whole = saved(noise(size=(64, 64)), kind)
        for _ in range(20):
            yield f"truncated {kind}", whole[: rng.randrange(len(whole) // 2)]
        yield f"{kind} with its end only", whole[len(whole) // 2 :]
        yield f"{kind} backwards", whole[::-1]
    for _ in range(30):
        yield "noise", rng.randbytes(rng.randrange(2000))
    yield from too_large()
    yield from others()


@pytest.mark.slow
def test_two_hundred_malformed_uploads_are_refused_and_the_service_stays(
    client: httpx.Client, service: Service
) -> None:
    uploads = list(malformed())
    assert len(uploads) >= 200
    before = service.metric("process_resident_memory_bytes")
    for what, data in uploads:
        answer = client.post("/v1/reconstruct", files={"photos": ("x.png", data)})
        assert answer.status_code == 415, (what, answer.status_code, answer.text[:200])
        assert answer.json()["detail"].startswith("a photo cannot be used: "), what
        assert "Traceback" not in answer.text
    assert service.metric("process_resident_memory_bytes") - before < 200 * 2**20
    assert client.get("/readyz").status_code == 200
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_a_damaged_photo_is_refused_or_shown_but_never_an_error(
    client: httpx.Client, service: Service
) -> None:
    """Bytes are flipped anywhere: some of these are still images."""
    rng = random.Random(1)
    seen = set()
    for number in range(90):
        data = bytearray(saved(noise(size=(64, 64)), KINDS[number % len(KINDS)]))
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        seen.add(client.post("/v1/encode", files={"photos": bytes(data)}).status_code)
    assert seen == {200, 415}
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", FORM, 422),
        (b"--x", FORM, 422),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", FORM, 400),
        (b"no parts", "multipart/form-data", 400),
        (b"photos=1", "application/x-www-form-urlencoded", 422),
        (saved(noise(), "PNG"), "image/png", 422),
        (b"[" * 10_000, "application/json", 422),
    ],
)
def test_a_body_that_holds_no_photo_is_refused(
    client: httpx.Client, body: bytes, kind: str, status: int
) -> None:
    answer = client.post("/v1/encode", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert "detail" in answer.json()


def test_more_photos_than_a_request_may_hold_are_refused(client: httpx.Client) -> None:
    photo = saved(noise(size=(8, 8)), "PNG")
    for count, told in ((257, "but got 257"), (258, "but got more"), (1100, "but got more")):
        answer = client.post("/v1/encode", files=[("photos", photo)] * count)
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"`photos` must be at most 256, {told}"
