"""What a running service allows: how many, how long, who, and nothing of its disk."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from serving.api.service import create
from serving.api.settings import Settings
from serving.model.checkpoints import load
from tests.services import Service, run_service
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

PAGE = "https://page.example"


def address(service: Service) -> tuple[str, int]:
    host, port = service.url.removeprefix("http://").split(":")
    return host, int(port)


def in_process(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x")


def test_a_full_queue_says_when_to_come_back(trained: Path, tmp_path: Path) -> None:
    with run_service(trained, tmp_path, "--queue", "1", "--max-images", "4096") as small:
        answers: list[httpx.Response] = []

        def ask_until_one_is_refused(_: int) -> None:
            with small.client() as client:
                while all(answer.status_code == 200 for answer in list(answers)):
                    answers.append(client.post("/v1/generate", json={"count": 2048}))
                # Another one is no readier, and where there is none, a refusal is the answer.
                assert client.get("/readyz").status_code == 200

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(ask_until_one_is_refused, range(12)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {429}
        assert len(refused) < len(answers)
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert "too many requests are waiting; try again in " in refused[0].json()["detail"]
        name = 'vaesweep_requests_total{method="POST",route="/v1/generate",status="429"}'
        assert small.metric(name) == len(refused)
        assert small.metric('vaesweep_queue_requests{part="decoder"}') == 0


def test_an_answer_has_a_time_limit(trained: Path) -> None:
    app = create(load(trained), Settings(max_images=4096, timeout=1e-3))

    async def ask() -> httpx.Response:
        async with in_process(app) as client:  # the request is there at once, however busy it is
            return await client.post("/v1/generate?format=json", json={"count": 4096})

    answer = asyncio.run(ask())
    assert answer.status_code == 504
    assert answer.json() == {"detail": "the answer took more than 0.001 s"}


def test_a_request_that_comes_slowly_is_not_waited_for(trained: Path, tmp_path: Path) -> None:
    with (
        run_service(trained, tmp_path, "--timeout", "0.02") as strict,
        socket.create_connection(address(strict), timeout=PATIENCE) as slow,
    ):
        slow.sendall(
            b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        )
        answer = slow.recv(4000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_request_end(
    trained: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    with run_service(trained, tmp_path) as service:
        body = b'{"count": 4, "seed": 1}'
        head = (
            b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        with socket.create_connection(address(service), timeout=PATIENCE) as begun:
            begun.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
            with service.client() as client:  # an answered request: the other one was read, too
                assert client.get("/healthz").status_code == 200
            service.process.send_signal(sent)
            begun.sendall(body[5:])
            assert begun.recv(100).startswith(b"HTTP/1.1 200")
        assert service.end() == 0
        assert "Traceback" not in service.log.read_text()


def test_named_pages_may_call_a_guarded_api_and_read_its_refusals(trained: Path) -> None:
    app = create(load(trained), Settings(cors=(PAGE,)), "open-sesame")
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }

    async def ask() -> tuple[httpx.Response, ...]:
        async with in_process(app) as client:
            return (
                # Browsers ask without the token.
                await client.options("/v1/generate", headers={"Origin": PAGE, **preflight}),
                await client.post("/v1/generate", json={}, headers={"Origin": PAGE}),
                await client.options("/v1/generate", headers={"Origin": "https://x", **preflight}),
            )

    permission, refused, elsewhere = asyncio.run(ask())
    assert (permission.status_code, refused.status_code, elsewhere.status_code) == (200, 401, 400)
    assert permission.headers["access-control-allow-origin"] == PAGE
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-origin" not in elsewhere.headers


def test_no_path_of_a_request_reaches_the_disk(trained: Path) -> None:
    app = create(load(trained), Settings(timeout=PATIENCE))
    opened: list[str] = []
    listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in ("open", "os.listdir", "os.mkdir", "os.rename", "os.remove"):
            opened.append(str(arguments[0]))

    async def ask() -> list[int]:
        photo = (trained / "samples.png").read_bytes()
        paths = ["/etc/passwd", "/marked.css", "/%2e%2e/%2e%2e/marked", "/docs/..%2fmarked"]
        names = ["/tmp/marked.png", "../../marked.png", "marked\0.png"]
        async with in_process(app) as client:
            read = [await client.get(path) for path in paths]
            sent = [
                await client.post("/v1/encode", files={"photos": (name, photo)}) for name in names
            ]
        return [answer.status_code for answer in read + sent]

    sys.addaudithook(listen)  # stays for ever, so it is told when to sleep
    try:
        statuses = asyncio.run(ask())
    finally:
        listening = False
    assert statuses == [404] * 4 + [200] * 3
    assert any("samples.png" in path for path in opened)  # it does listen
    assert [path for path in opened if "marked" in path or "passwd" in path] == []
