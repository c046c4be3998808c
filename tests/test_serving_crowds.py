"""Whoever takes most of a service has to make room: for connections, bodies and large photos."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from uvicorn.server import ServerState

from experiments.data.decoding.decode import BadImageError
from serving.api import uploads
from serving.api.batching import CLIENT, Batcher, QueueFullError
from serving.api.guard import Guard
from serving.api.service import create
from serving.api.settings import Settings
from serving.model.checkpoints import load
from serving.server import Connection
from tests.hostile.images import noise, saved
from tests.hostile.requests import form
from tests.services import Service, ask, run_service
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

MIB = 2**20


@pytest.fixture(scope="module")
def small(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("small")
    with run_service(trained, directory, "--max-connections", "16") as running:
        yield running


def address(service: Service) -> tuple[str, int]:
    return "127.0.0.1", int(service.url.rpartition(":")[2])


def posted(path: str, length: int, *more: str) -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}")
    kind = "Content-Type: multipart/form-data; boundary=x"
    return "\r\n".join([*head, kind, *more, "", ""]).encode()


# Bodies


@pytest.mark.parametrize("path", ["/nothing", "/v1/encode", "/"])
def test_a_body_of_unknown_length_is_refused_before_any_of_it_is_read(
    small: Service, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(address(small), timeout=PATIENCE) as client:
        client.sendall(head.encode() + b"1\r\na\r\n" * 10)
        told = b"".join(iter(partial(client.recv, 4000), b""))
    assert told.startswith(b"HTTP/1.1 411 ")
    assert b"connection: close" in told
    assert b"Content-Length" in told


def test_bodies_in_pieces_of_a_byte_cost_nothing() -> None:
    """The parser is given all of a read at once, and must not go through it."""
    sent: list[bytes] = []
    asked: list[object] = []
    connection = _connection(sent, asked)
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.data_received(head + b"1\r\na\r\n" * 40_000)
    assert len(asked) == 1
    assert connection.cycle.body == b""
    assert connection.flow.read_paused


def test_a_head_is_read_to_its_limit_and_no_further() -> None:
    sent: list[bytes] = []
    connection = _connection(sent, [])
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 60_000 + b"\r\n")
    assert sent[0].startswith(b"HTTP/1.1 400 ")


def test_requests_behind_each_other_are_read_one_at_a_time() -> None:
    asked: list[object] = []
    connection = _connection([], asked)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9000)
    assert len(asked) == 1
    assert connection.flow.read_paused


class _Loop:
    """Notes what is asked of the application, and does nothing of it."""

    def __init__(self, asked: list[object]) -> None:
        self._asked = asked

    def create_task(self, work: Any, **_: object) -> Any:
        self._asked.append(work)
        work.close()
        return Mock()


def _connection(sent: list[bytes], asked: list[object]) -> Connection:
    """One without a network: what it writes, and what it asks of the application."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    config = uvicorn.Config(app, ws="none", log_config=None, lifespan="off")
    loop: Any = _Loop(asked)
    connection = Connection(config, ServerState(), {}, loop, most=8)
    closing: list[bool] = []
    transport: Any = SimpleNamespace(
        write=sent.append,
        close=lambda: closing.append(True),
        is_closing=lambda: bool(closing),
        pause_reading=lambda: None,
        get_extra_info=lambda *_: None,
    )
    connection.connection_made(transport)
    return connection


def test_who_holds_large_bodies_makes_room_for_small_ones(trained: Path, tmp_path: Path) -> None:
    with run_service(trained, tmp_path) as service, ExitStack() as opened:
        size = 16 * MIB - 1000
        for _ in range(2):
            client = socket.create_connection(address(service), timeout=PATIENCE)
            opened.enter_context(client).sendall(posted("/v1/encode", size))
            client.sendall(form(bytes(size))[: size - 500])
        photo = saved(noise(random.Random(0), 190), "PNG")
        assert len(photo) > 100_000
        with service.client() as honest:
            for _ in range(5):
                answer = honest.post("/v1/encode", files={"photos": photo})
                assert answer.status_code == 200, answer.text


def test_many_bodies_that_stay_make_room_for_one_that_moves(trained: Path, tmp_path: Path) -> None:
    with run_service(trained, tmp_path, "--max-mebibytes", "1") as service, ExitStack() as opened:
        for _ in range(40):
            client = socket.create_connection(address(service), timeout=PATIENCE)
            opened.enter_context(client).sendall(
                posted("/v1/encode", 100_000) + form(bytes(100_000))[:60_000]
            )
        photo = saved(noise(random.Random(0), 190), "PNG")
        with service.client() as honest:
            for _ in range(5):
                answer = honest.post("/v1/encode", files={"photos": photo})
                assert answer.status_code == 200, answer.text


def test_slow_small_bodies_of_others_outlive_the_large_ones_of_one_client() -> None:
    """However long they take; a client has as many bodies as it likes."""
    asyncio.run(_crowded())


async def _crowded() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    settings = Settings(max_mebibytes=1, timeout=PATIENCE)
    guard = Guard(app, settings, Mock(), model="m", token=None, bodies={})
    statuses: dict[str, list[int]] = {}

    async def send_body(client: str, sizes: list[int], pause: float, begin: float = 0) -> None:
        left = list(sizes)

        async def receive() -> Any:
            await asyncio.sleep(pause)
            size = left.pop(0)
            return {"type": "http.request", "body": bytes(size), "more_body": bool(left)}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.setdefault(client, []).append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"a")],
                 "client": (client, 1), "query_string": b""}  # fmt: skip
        await asyncio.sleep(begin)
        await guard(scope, receive, send)

    slow = [send_body(f"10.0.0.{i}", [1000] * 100, 0.02) for i in range(3)]
    large = [send_body("10.9.9.9", [MIB // 10] * 9 + [1], 0.001, begin=1.5) for _ in range(8)]
    await asyncio.gather(*slow, *large)
    assert [statuses[f"10.0.0.{i}"] for i in range(3)] == [[200]] * 3
    assert 503 in statuses["10.9.9.9"]


# Connections


def test_who_takes_no_answers_makes_room(trained: Path, tmp_path: Path) -> None:
    silent = "\r\n".join(["GET /app.js HTTP/1.1", "Host: localhost", "", ""]).encode() * 2000
    with run_service(trained, tmp_path, "--max-connections", "8") as service, ExitStack() as opened:
        for _ in range(8):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address(service))
            client.sendall(silent)

        def is_served() -> bool:
            try:
                with service.client() as honest:
                    return honest.get("/healthz").status_code == 200
            except httpx.TransportError:  # as long as all of them are still worked on
                return False

        wait_until(is_served, service.process, service.log.read_text)


def _unsent(sizes: list[int], sent: bytes = b"") -> list[bool]:
    """Whether a connection is silent, asked every ten seconds with so much unsent.

    Before each time, its client sends one byte of its next request.
    """
    connection = _connection([], [])
    transport: Any = connection.transport
    found, now = [], connection.idle_since
    connection.cycle = Mock(response_complete=False, more_body=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: now)
        for at, size in enumerate(sizes):
            now += 10
            if sent[at:]:
                connection.data_received(sent[at : at + 1])
            transport.get_write_buffer_size = lambda size=size: size
            found.append(connection.is_silent(now))
    return found


def test_an_answer_may_be_taken_slowly_but_not_left() -> None:
    assert _unsent([900, 800, 700, 600, 500]) == [False] * 5
    assert _unsent([900, 800, 800, 800]) == [False, False, False, True]
    assert _unsent([0, 0, 0]) == [False] * 3, "the request is worked on"
    assert _unsent([0, 0, 900, 900, 900]) == [False] * 4 + [True], "from when it began"
    assert _unsent([900] * 4, b"GET ") == [False, False, True, True], "whatever it asks next"


def test_a_body_on_its_way_is_not_dropped_for_new_connections(small: Service) -> None:
    photo = saved(noise(random.Random(0), 190), "PNG")
    body = form(photo)
    over = threading.Event()

    def flood() -> None:
        with ExitStack() as opened:
            for _ in range(400):
                opened.enter_context(socket.create_connection(address(small), timeout=PATIENCE))
        over.set()

    flooding = threading.Thread(target=flood)
    with socket.create_connection(address(small), timeout=PATIENCE) as client:
        client.sendall(posted("/v1/encode", len(body)) + body[:1000])
        flooding.start()
        at = 1000
        while not over.is_set() and at < len(body) - 200:
            client.sendall(body[at : at + 100])
            at += 100
            time.sleep(0.002)
        flooding.join()
        client.sendall(body[at:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")


# What waits


def test_no_client_gets_all_places_to_wait() -> None:
    asyncio.run(_waiting())


async def _waiting() -> None:
    over = asyncio.Event()

    async def work(rows: torch.Tensor) -> torch.Tensor:
        await over.wait()
        return rows

    batcher = Batcher(work, most=1, waiting=8, observe=lambda rows: None)
    rows = torch.zeros(1, 2)

    def asked(client: str) -> asyncio.Task[torch.Tensor]:
        CLIENT.set(client)
        return asyncio.create_task(batcher(rows))

    many = [asked("one") for _ in range(20)]
    await asyncio.sleep(0.01)
    other = [asked("other") for _ in range(2)]
    await asyncio.sleep(0.01)
    over.set()
    refused = [isinstance(found, QueueFullError)
               for found in await asyncio.gather(*many, return_exceptions=True)]  # fmt: skip
    assert refused.count(False) in (6, 7), "three quarters of the places, and who is worked on"
    assert all(len(found) == 1 for found in await asyncio.gather(*other))


# Large photos


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {}),
        ("WEBP", {"lossless": True, "method": 0}),
        ("AVIF", {"speed": 10}),
        ("HEIF", {}),
        ("TIFF", {"compression": "jpeg"}),
        ("GIF", {}),
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
    ],
)
def test_a_photo_of_twelve_megapixels_is_decoded(
    trained: Path, kind: str, options: dict[str, object]
) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    photo = saved(Image.fromarray(rough).resize((4032, 3024)), kind, **options)
    decoders = uploads.Decoders(load(trained), Settings())
    try:
        image = asyncio.run(decoders.decode(lambda: photo))
    finally:
        decoders.close()
    assert image.float().std() > 10


def test_a_broken_photo_is_refused_by_its_own_reason(trained: Path) -> None:
    decoders = uploads.Decoders(load(trained), Settings())
    whole = saved(noise(random.Random(0), 300), "WEBP")
    try:
        for broken in (whole[:500], whole[:30] + b"\xff" * 500, b"RIFF\0\0\1\0WEBPVP8 "):
            with pytest.raises(BadImageError):
                asyncio.run(decoders.decode(partial(bytes, broken)))
    finally:
        decoders.close()


# A disk


def test_a_disk_that_takes_no_uploads_is_not_the_clients_fault(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    app = create(load(trained), Settings(timeout=PATIENCE))

    answer = ask(app, "POST", "/v1/encode", files={"photos": bytes(2 * MIB)})
    assert answer.status_code == 507
    assert "No space left on device" in caplog.text
    assert "/tmp" not in answer.text


def test_eight_photos_at_once_are_answered_or_told_when_to_come_again(
    trained: Path, tmp_path: Path
) -> None:
    photo = saved(Image.new("RGB", (4032, 3024), (90, 100, 20)), "PNG")
    with run_service(trained, tmp_path, "--timeout", "10") as service:

        def encode(_: int) -> httpx.Response:
            with service.client() as client:
                return client.post("/v1/encode", files={"photos": photo})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(encode, range(8)))
            answers = list(pool.map(encode, range(8)))
    assert {answer.status_code for answer in answers} <= {200, 429}
