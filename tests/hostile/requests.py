"""Requests that mean no good, by kind: `requests(seed)` gives the same thousand for a seed.

Bytes as they go over a connection, since much of what is hostile no HTTP client would send.
"""

from __future__ import annotations

import functools
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.hostile.images import chunk, large, noise, png, progressive, saved, swelling

TOKEN = "a-token-of-the-tests"
"""That the service which is attacked asks for."""

Then = Literal["read", "wait", "leave", "ignore"]
"""Read the answer; say nothing more and wait; hang up; or stay, and never take the answer."""


@dataclass(frozen=True)
class Hostile:
    """What a client sends, and what it does then.

    Attributes:
        kind: the name of its kind.
        pieces: that are sent one after the other, with a pause between.
        then: what the client does after them.
    """

    kind: str
    pieces: tuple[bytes, ...]
    then: Then = "read"


Make = Callable[[random.Random], bytes | Hostile | tuple[bytes, ...]]
KINDS: dict[str, tuple[int, Make]] = {}
"""By name: how many, and what makes one."""


def kind(count: int) -> Callable[[Make], Make]:
    """Register what makes a kind of hostile request."""

    def register(make: Make) -> Make:
        KINDS[make.__name__.replace("_", " ")] = count, make
        return make

    return register


def requests(seed: int) -> Iterator[Hostile]:
    """All of them, in an order without meaning."""
    rng = random.Random(seed)
    names = [name for name, (count, _) in KINDS.items() for _ in range(count)]
    rng.shuffle(names)
    for name in names:
        made = KINDS[name][1](rng)
        if isinstance(made, Hostile):
            yield Hostile(name, made.pieces, made.then)
        else:
            yield Hostile(name, made if isinstance(made, tuple) else (made,))


def http(
    path: str, body: bytes = b"", content: str = "application/json", *more: str, method: str = ""
) -> bytes:
    """A request with a token, as a polite client would write it."""
    head = [f"{method or ('POST' if body else 'GET')} {path} HTTP/1.1", "Host: localhost"]
    head += [f"Authorization: Bearer {TOKEN}", f"Content-Length: {len(body)}"]
    head += [f"Content-Type: {content}"] if body else []
    return "\r\n".join([*head, *more, "", ""]).encode("latin-1") + body


def form(*photos: bytes, name: str = "photos", filename: str = "photo.png") -> bytes:
    """The body of a form with photos; `BOUNDARY` is between them."""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    parts = (head.encode() + photo + b"\r\n" for photo in photos)
    return b"".join(parts) + b"--x--\r\n"


FORM = "multipart/form-data; boundary=x"


def upload(*photos: bytes, path: str = "/v1/reconstruct") -> bytes:
    return http(path, form(*photos), FORM)


# JSON


@functools.cache
def _texts() -> bytes:
    row = "[" + ",".join(['"a"'] * 4000) + "]"
    return f'{{"latents":[{",".join([row] * 1000)}]}}'.encode()


@functools.cache
def _keys(count: int) -> bytes:
    return json.dumps({f"{i:x}": 0 for i in range(count)}).encode()


@kind(12)
def latents_of_text(rng: random.Random) -> bytes:
    return http("/v1/decode", _texts())


@kind(20)
def latents_of_text_within_the_limit(rng: random.Random) -> bytes:
    row = "[" + ",".join(['""', "{}", "[]", "null"][i % 4] for i in range(600)) + "]"
    return http("/v1/decode", f'{{"latents":[{",".join([row] * 10)}]}}'.encode())


@kind(6)
def unknown_keys(rng: random.Random) -> bytes:
    return http("/v1/generate", _keys(1_350_000))


@kind(20)
def unknown_keys_within_the_limit(rng: random.Random) -> bytes:
    return http("/v1/generate", _keys(350))


@kind(20)
def nested_json(rng: random.Random) -> bytes:
    depth = rng.choice((500, 1500, 3900, 10_000, 1_000_000))
    path = rng.choice(("/v1/generate", "/v1/decode"))
    return http(path, rng.choice((b"[", b'{"a":', b'{"latents":[')) * depth)


@kind(30)
def odd_numbers(rng: random.Random) -> bytes:
    number = rng.choice(
        ("1e999", "-1e999", "NaN", "Infinity", "1" * 3000, "-0", "1e-999", "true", '"1"', "null",
         "0.1e5000", "9" * 4299, "[]", "{}")
    )  # fmt: skip
    key = rng.choice(("count", "seed", "temperature"))
    body = {"decode": f'{{"latents":[[{number},0,0,0]]}}', "generate": f'{{"{key}":{number}}}'}
    path = rng.choice(("decode", "generate"))
    return http(f"/v1/{path}", body[path].encode())


@kind(20)
def many_short_numbers(rng: random.Random) -> bytes:
    row = "[" + ",".join(["0"] * rng.choice((4, 4096, 4097))) + "]"
    rows = ",".join([row] * min(4097, 30_000 // len(row)))
    return http("/v1/decode", f'{{"latents":[{rows}]}}'.encode())


@kind(20)
def broken_json(rng: random.Random) -> bytes:
    body = rng.choice(
        (b"", b"{", b'{"count": 4', b"\xff\xfe{}", b'{"\\ud800":1}', b'"\xed\xa0\x80"', b"nul",
         b'{"count":1,"count":1,"count":2}', b"\xef\xbb\xbf{}", b"{} {}", b"[]", b"0", b'""')
    )  # fmt: skip
    return http("/v1/generate", body or b" ")


@kind(20)
def content_of_another_type(rng: random.Random) -> bytes:
    content = rng.choice(
        ("text/plain", "application/xml", "application/x-www-form-urlencoded", "a" * 3000, "/",
         "multipart/form-data", "multipart/form-data; boundary=", "application/json; charset=x")
    )  # fmt: skip
    path = rng.choice(("generate", "decode", "encode", "reconstruct", "interpolate"))
    return http(f"/v1/{path}", b'{"count": 1}', content)


@kind(20)
def values_out_of_range(rng: random.Random) -> bytes:
    value = rng.choice((0, -1, 10**6, 10**18, 257, 1.5))
    return http("/v1/generate?format=json", json.dumps({"count": value}).encode())


# Photos


@kind(6)
def progressive_jpeg_of_forty_thousand_scans(rng: random.Random) -> bytes:
    return upload(progressive(6300, 6300, 40_000))


@kind(2)
def progressive_jpeg_just_within_the_limit(rng: random.Random) -> bytes:
    return upload(progressive(6300, 6300, 15))


@kind(10)
def small_progressive_jpeg_of_many_scans(rng: random.Random) -> bytes:
    return upload(progressive(300, 300, rng.choice((100, 5000, 20_000))))


@kind(16)
def png_of_33_megapixels_with_alpha(rng: random.Random) -> bytes:
    return upload(large("RGBA"))


@kind(20)
def image_of_many_pixels(rng: random.Random) -> bytes:
    whats = ("RGB", "16 bits", "LA", "palette", "WEBP", "GIF", "TIFF", "HEIF", "AVIF")
    return upload(large(rng.choice(whats)), path="/v1/encode")


@kind(30)
def image_that_declares_absurd_sizes(rng: random.Random) -> bytes:
    width, height = rng.choice(
        ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 2**31 - 1), (70_000, 70_000))
    )
    gif = saved(noise(rng), "GIF")
    bmp = saved(noise(rng), "BMP")
    jpeg = saved(noise(rng), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    return upload(
        rng.choice(
            (
                png(8, 8, 2, 8)[:16] + struct.pack(">II", width, height) + png(8, 8, 2, 8)[24:],
                gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
                bmp[:18] + struct.pack("<ii", width, height) + bmp[26:],
                jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :],
            )
        )
    )


@kind(10)
def pixels_that_are_missing(rng: random.Random) -> bytes:
    return upload(png(6000, 6000, rng.choice((2, 6)), 8, rows=rng.choice((1, 100))))


@kind(10)
def text_that_swells(rng: random.Random) -> bytes:
    name, head = rng.choice(((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")))
    return upload(png(8, 8, 2, 8, *[chunk(name, head + swelling())] * rng.choice((1, 20))))


@kind(60)
def image_that_is_cut_short(rng: random.Random) -> bytes:
    data = saved(noise(rng), rng.choice(("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")))
    return upload(data[: rng.randrange(1, len(data))])


@kind(60)
def image_with_flipped_bytes(rng: random.Random) -> bytes:
    data = bytearray(saved(noise(rng), rng.choice(("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"))))
    for _ in range(rng.randrange(1, 30)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return upload(bytes(data))


@kind(30)
def what_is_no_image(rng: random.Random) -> bytes:
    head = rng.choice(
        (b"", b"<svg/>", b"%PDF", b"PK\3\4", b"II*\0", b"RIFF", b"\0\0\0\x18ftypheic")
    )
    return upload(head + rng.randbytes(rng.randrange(3000)))


@kind(3)
def many_photos(rng: random.Random) -> bytes:
    return upload(*[saved(noise(rng, 16), "PNG")] * rng.choice((200, 257, 1100)))


@kind(6)
def many_large_photos(rng: random.Random) -> bytes:
    return upload(*[large("RGB")] * 20)


@kind(4)
def large_bodies_of_nothing(rng: random.Random) -> bytes:
    return upload(rng.randbytes(2**16) * 200)


@kind(6)
def longest_way_between_photos(rng: random.Random) -> bytes:
    photo = saved(noise(rng), "PNG")
    body = form(photo, name="first")[: -len(b"--x--\r\n")] + form(photo, name="second")
    return http(f"/v1/interpolate?steps=64&format={rng.choice(('gif', 'webp'))}", body, FORM)


# Forms


@kind(20)
def broken_form(rng: random.Random) -> bytes:
    whole = form(saved(noise(rng), "PNG"))
    body = rng.choice(
        (whole[: rng.randrange(len(whole))], whole.replace(b"name=", b"mane="), b"--x--",
         whole.replace(b"--x", b"--y"), b"--x\r\n" + b"A: " + b"b" * 100_000, b"--x\r\n\r\n" * 5000,
         whole.replace(b"\r\n", b"\n"), b"\0" * 5000)
    )  # fmt: skip
    return http("/v1/reconstruct", body or b"-", FORM)


@kind(10)
def form_of_many_fields(rng: random.Random) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="photos"\r\n\r\n1\r\n'
    return http("/v1/encode", part * rng.choice((500, 1001, 100_000)) + b"--x--\r\n", FORM)


@kind(20)
def names_of_files(rng: random.Random) -> bytes:
    name = rng.choice(("../../etc/passwd", "a\0b", "\x1b[2J", "x" * 8000, "%s%n", "con", "\u202e"))
    return http("/v1/encode", form(saved(noise(rng), "PNG"), filename=name), FORM)


# HTTP


@kind(20)
def body_that_never_comes(rng: random.Random) -> Hostile:
    head = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    whole = head + TOKEN.encode() + b"\r\nContent-Length: 100\r\n\r\n{"
    return Hostile("", (whole,), rng.choice(("wait", "leave")))


@kind(10)
def chunks_without_end(rng: random.Random) -> tuple[bytes, ...]:
    head = http("/v1/generate", method="POST").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    return (head, *[b"1000\r\n" + b" " * 4096 + b"\r\n"] * 30)


@kind(12)
def chunks_of_a_byte(rng: random.Random) -> bytes:
    path = rng.choice(("/nothing", "/v1/encode", "/v1/generate", "/healthz"))
    head = http(path, method="POST").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"1\r\na\r\n" * 45_000


@kind(20)
def broken_chunks(rng: random.Random) -> bytes:
    head = http("/v1/generate", method="POST").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    return head + rng.choice(
        (b"zz\r\n\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nabc\r\n0\r\n\r\n")
    )


@kind(30)
def lengths_that_lie(rng: random.Random) -> bytes:
    good = http("/v1/generate", b'{"count": 1}')
    length = b"Content-Length: 12"
    lie = rng.choice(
        (b"Content-Length: 1", b"Content-Length: -1", b"Content-Length: " + b"9" * 4400,
         b"Content-Length: 12\r\nContent-Length: 13", b"Content-Length: 0x0c",
         b"Content-Length: 12\r\nTransfer-Encoding: chunked", b"Content-Length: 99999999999",
         b"Content-Length: \xb2")
    )  # fmt: skip
    return good.replace(length, lie)


@kind(30)
def odd_headers(rng: random.Random) -> bytes:
    more = rng.choice(
        ("A: " + "b" * 100_000, "\r\n".join(["A: b"] * 10_000), "A: \0", " folded", "A b", ": x",
         "Host: other", "\x7f: 1", "Connection: " + "close, " * 999, "Expect: 100-continue",
         "Upgrade: h2c\r\nConnection: Upgrade", "Upgrade: websocket\r\nConnection: Upgrade",
         "Content-Type: application/json; charset=" + "a" * 9000, "Range: bytes=0-,0-,0-")
    )  # fmt: skip
    return http(rng.choice(("/v1/generate", "/v1/model", "/")), b"", "", more)


@kind(60)
def invented_methods(rng: random.Random) -> bytes:
    method = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.choice((3, 9, 500))))
    return http(rng.choice(("/", "/metrics", "/v1/model", "/healthz")), method=method)


@kind(30)
def what_is_no_http(rng: random.Random) -> bytes:
    return rng.choice(
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
         b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", b"\r\n" * 9999, b"\0" * 999,
         rng.randbytes(500) + b"\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"A" * 100_000,
         b"GET / HTTP/1.1\nHost: localhost\n\n")
    )  # fmt: skip


@kind(60)
def odd_paths(rng: random.Random) -> bytes:
    path = rng.choice(
        ("/" + "a" * 60_000, "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%ff%fe",
         "http://evil.example/", "*", "/v1/model?" + "a=b&" * 3000, "/docs/../metrics", "//",
         "/v1/generate/",
         "/app.js%0d%0aSet-Cookie:a", "/v1/model#x", "/V1/MODEL", "/v1//model", "/?" + "%" * 999)
    )  # fmt: skip
    return http(path, method=rng.choice(("GET", "HEAD", "POST", "OPTIONS")))


@kind(20)
def odd_questions(rng: random.Random) -> bytes:
    query = rng.choice(
        ("format=exe", "format=png&format=json", "format", "format=" + "a" * 9000, "steps=1e9",
         "steps=-1", "steps=" + "9" * 5000, "steps=2&steps=99", "format[]=png", "format=%00")
    )  # fmt: skip
    photo = form(saved(noise(rng), "PNG"), name="first")
    return http(f"/v1/interpolate?{query}", photo, FORM)


@kind(30)
def strangers(rng: random.Random) -> bytes:
    bearer = f"Authorization: Bearer {TOKEN}".encode()
    lie = rng.choice(
        (b"A: b", b"Authorization: Bearer", b"Authorization: Bearer \xff\xfe", b"authorization: ",
         b"Authorization: " + b"A" * 9000, b"Authorization: Basic YTpi", bearer[:-1])
    )  # fmt: skip
    whole = rng.choice((http("/metrics"), http("/v1/generate", b"{}"), upload(b"1" * 10**6)))
    return whole.replace(bearer, lie)


@kind(30)
def other_hosts(rng: random.Random) -> bytes:
    host = rng.choice(
        (
            b"evil.example",
            b"localhost.evil.example",
            b"",
            b"a b",
            b"[::1",
            b"x" * 9000,
            b"localhost@x",
        )
    )
    whole = http(rng.choice(("/", "/v1/model", "/metrics", "/docs")))
    return whole.replace(b"Host: localhost", b"Host: " + host)


@kind(10)
def heads_of_many_lines(rng: random.Random) -> bytes:
    line = rng.choice((b"a:\r\n", b"a: b\r\n", b"\r\n", b" a\r\n", b"a\n"))
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n" + line * 60_000


@kind(4)
def tiny_requests_at_once(rng: random.Random) -> Hostile:
    return Hostile("", (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" * 3000,))


@kind(10)
def many_requests_at_once(rng: random.Random) -> bytes:
    return http(rng.choice(("/v1/model", "/docs", "/openapi.json"))) * 50


# Clients that are slow, deaf or gone


@kind(8)
def uploads_that_stop(rng: random.Random) -> Hostile:
    whole = upload(bytes(rng.choice((100_000, 16_000_000))))
    return Hostile("", (whole[:-500],), "wait")


@kind(100)
def connections_that_say_nothing(rng: random.Random) -> Hostile:
    return Hostile("", (), "wait")


@kind(20)
def headers_drop_by_drop(rng: random.Random) -> Hostile:
    return Hostile("", tuple(bytes([b]) for b in b"GET / HTTP/1.1\r\nHost: loc"), "wait")


@kind(20)
def answers_that_nobody_takes(rng: random.Random) -> Hostile:
    ask = rng.choice((http("/v1/generate?format=json", b'{"count": 256}'), http("/docs") * 200))
    return Hostile("", (ask,), "ignore")


@kind(30)
def clients_that_leave(rng: random.Random) -> Hostile:
    whole = rng.choice(
        (http("/v1/generate?format=json", b'{"count": 256}'), upload(large("RGBA")), http("/docs"))
    )
    return Hostile("", (whole[: rng.choice((len(whole), len(whole) // 2))],), "leave")
