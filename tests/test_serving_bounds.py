"""Nothing small costs much: what a single kind of request may take of a service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from experiments.data.decoding.decode import BadImageError
from experiments.errors import UserError
from serving.api import uploads
from serving.api.messages import DecodeRequest
from serving.api.service import create
from serving.api.settings import TOKEN, Settings, options, token
from serving.model.checkpoints import Model, load
from serving.model.trained import Statistics
from serving.monitoring.drift import FEWEST, SHARE, Drift, client_of
from serving.server import Seldom
from tests.hostile.images import large, noise, progressive, saved
from tests.services import Service, ask, run_service
from tests.test_serving_uploads import png
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load(trained)


@pytest.fixture
def decoders(model: Model) -> Iterator[uploads.Decoders]:
    found = uploads.Decoders(model, Settings())
    yield found
    found.close()


def photo() -> bytes:
    return saved(noise(random.Random(0)), "PNG")


# Photos


def test_a_photo_that_takes_too_long_is_refused_by_its_header(decoders: uploads.Decoders) -> None:
    with pytest.raises(BadImageError, match=r"it has 26 or more scans of 39,690,000 pixels each"):
        asyncio.run(decoders.decode(lambda: progressive(6300, 6300, 40_000)))


@pytest.mark.parametrize("side", [6400, 30_000, 2**31 - 1])
def test_a_photo_that_is_too_large_is_told_so(decoders: uploads.Decoders, side: int) -> None:
    with pytest.raises(BadImageError, match=f"it has {side * side:,} pixels, and 40,000,000 are"):
        asyncio.run(decoders.decode(lambda: png(side, side)))


@pytest.mark.slow
def test_a_photo_that_takes_too_much_memory_is_told_so_and_others_are_decoded(
    decoders: uploads.Decoders,
) -> None:
    with pytest.raises(BadImageError, match="it needs more than 192 MiB of memory"):
        asyncio.run(decoders.decode(lambda: large("RGBA")))
    for _ in range(3):
        assert asyncio.run(decoders.decode(photo)).shape == (3, 32, 32)
        assert asyncio.run(decoders.decode(lambda: large("RGB"))).max() == 0


def test_a_photo_that_nobody_waits_for_any_more_is_left(
    decoders: uploads.Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def give_up() -> None:
        loop = asyncio.get_running_loop()

        def read() -> bytes:
            loop.call_soon_threadsafe(begun.set)
            return progressive(6300, 6300, 15)

        waiting = asyncio.create_task(decoders.decode(read))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # Its process, if it had one, is gone, and those that come are decoded by another.
        for image in await asyncio.gather(*[decoders.decode(photo) for _ in range(8)]):
            assert image.shape == (3, 32, 32)

    asyncio.run(give_up())


def test_a_process_that_died_is_replaced(decoders: uploads.Decoders) -> None:
    decoders.start()
    for number in decoders.processes:
        os.kill(number, signal.SIGKILL)
    before = set(decoders.processes)
    while any(Path(f"/proc/{n}/cmdline").read_bytes() for n in before):
        time.sleep(0.01)
    assert asyncio.run(decoders.decode(photo)).shape == (3, 32, 32)


@pytest.mark.slow
def test_more_large_photos_than_may_wait_are_refused_with_a_time(model: Model) -> None:
    app = create(model, Settings(timeout=PATIENCE))

    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asks = [client.post("/v1/encode", files={"photos": large("RGB")}) for _ in range(16)]
            return await asyncio.gather(*asks)

    found = asyncio.run(answers())
    refused = [answer for answer in found if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {429}
    assert 0 < len(refused) < len(found)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_the_process_that_decodes_knows_no_network() -> None:
    heavy = ["torch", "torchmetrics", "fastapi", "pydantic", "scipy", "uvicorn"]
    code = f"import sys, serving.api.decoder; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# JSON


def test_a_body_may_be_as_large_as_a_valid_request_needs() -> None:
    settings = Settings()
    for units in (1, 4, 128, 512):
        whole = json.dumps({"latents": [[-1.2345678901234567e-100] * units] * settings.max_images})
        assert len(whole) <= settings.max_json(units) < 2 * len(whole) + 9000
    assert settings.max_json(10**9) == settings.max_bytes


def test_the_first_error_ends_a_request() -> None:
    with pytest.raises(ValidationError) as refused:
        DecodeRequest.model_validate({"latents": [["a"] * 4000] * 1000})
    assert refused.value.error_count() == 1


def test_a_body_that_is_too_large_for_its_route_is_refused(model: Model) -> None:
    app = create(model, Settings())
    texts = json.dumps({"latents": [["a"] * 4000] * 1000})
    for path in ("/v1/decode", "/v1/generate"):
        answer = ask(app, "POST", path, content=texts)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("a request must have at most ")


# Connections


@pytest.fixture(scope="module")
def small(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("small")
    with run_service(trained, directory, "--max-connections", "16") as running:
        yield running


@pytest.mark.slow
def test_idle_connections_keep_nobody_out(small: Service) -> None:
    address = ("127.0.0.1", int(small.url.rpartition(":")[2]))
    with ExitStack() as opened:
        for number in range(300):
            idle = opened.enter_context(socket.create_connection(address, timeout=PATIENCE))
            if number % 2:
                idle.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Len")
            if number % 100 == 99:
                with small.client() as client:
                    assert client.post("/v1/generate", json={"count": 1}).status_code == 200
    assert len(small.log.read_text()) < 1000


@pytest.mark.slow
def test_invented_methods_make_no_metrics(small: Service) -> None:
    with small.client() as client:
        client.request("BREW", "/v1/model")
        before = len(client.get("/metrics").text.splitlines())
        for number in range(100):
            assert client.request(f"BREW{number}", "/v1/model").status_code == 405
        assert len(client.get("/metrics").text.splitlines()) - before < 20


@pytest.mark.slow
def test_the_service_ends_when_told_whatever_it_does(trained: Path, tmp_path: Path) -> None:
    with run_service(trained, tmp_path, "--timeout", "3") as service, ExitStack() as opened:
        address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
        body = b"--x\r\nContent-Disposition: form-data; name=photos; filename=x\r\n\r\n"
        body += progressive(6300, 6300, 15) + b"\r\n--x--\r\n"
        head = b"POST /v1/encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
        head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        for _ in range(6):
            held = opened.enter_context(socket.create_connection(address, timeout=PATIENCE))
            held.sendall(head + body)
        decoders = [Path(f"/proc/{n}") for n in _children(service.process.pid)]
        service.process.send_signal(signal.SIGTERM)
        assert service.end() == 0
        assert len(decoders) >= 3
        assert not any(path.exists() for path in decoders)


def _children(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children()]


def test_a_line_that_comes_again_and_again_is_logged_a_few_times() -> None:
    seldom = Seldom()
    lines = [logging.LogRecord("x", 30, "", 0, "%s failed", (i,), None) for i in range(1000)]
    passed = [line.getMessage() for line in lines if seldom.filter(line)]
    assert len(passed) == 10
    other = logging.LogRecord("x", 40, "", 0, "something else", (), None)
    assert seldom.filter(other)
    assert other.getMessage() == "something else (before it, 990 lines like others were left out)"


# Who may ask


@pytest.mark.parametrize("secret", ["a b", "a\n", "\n", "caf\xe9", "a\tb", "\u20ac", "a\0"])
def test_a_token_that_no_header_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    rule = "a token must be letters, digits and signs of ASCII"
    if "\0" not in secret:
        monkeypatch.setenv(TOKEN, secret)
        with pytest.raises(UserError, match=f"{rule}.*that of {TOKEN} has"):
            token(None)
    file = tmp_path / "token"
    file.write_text(secret + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{rule}.*that of `--token-file`"):
        token(file)


def test_a_files_last_line_end_is_no_part_of_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\r\n")
    assert token(file) == "secret"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "65536"], "`--port` must be less than or equal to 65535, but got 65536"),
        (["--timeout", "nan"], "`--timeout` must be less than or equal to 3600, but got nan"),
        (["--queue", "x"], "`--queue` must be a valid integer, but got x"),
        (["--hosts", "a.*"], "`--hosts` must be names such as .*, but got a"),
    ],
)
def test_an_option_that_cannot_be_is_told_with_its_rule(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        options(["--checkpoint", "nowhere", *arguments])


def test_only_named_hosts_are_served_but_probes_come_by_address(model: Model) -> None:
    app = create(model, Settings(hosts=("vae.example.org",)))
    for path, expected in (("/", 400), ("/v1/model", 400), ("/healthz", 200), ("/metrics", 200)):
        refused = ask(app, "GET", path, headers={"Host": "10.0.0.7:8000"})
        assert refused.status_code == expected
        assert expected == 200 or "the option --hosts" in refused.json()["detail"]
        assert ask(app, "GET", path, headers={"Host": "vae.example.org"}).status_code == 200


def test_the_description_says_that_a_token_is_needed(model: Model) -> None:
    for secret, expected in (("secret", [{"HTTPBearer": []}]), (None, None)):
        described = ask(create(model, Settings(), secret), "GET", "/openapi.json").json()
        assert described["paths"]["/v1/decode"]["post"].get("security") == expected
        assert described["paths"]["/healthz"]["get"].get("security") is None


# Answers


def test_every_answer_names_its_model_and_head_is_get_without_a_body(model: Model) -> None:
    app = create(model, Settings())
    for path in ("/", "/healthz", "/v1/model", "/docs"):
        got, asked = ask(app, "GET", path), ask(app, "HEAD", path)
        assert (got.status_code, asked.status_code, asked.content) == (200, 200, b"")
        assert asked.headers["content-length"] == str(len(got.content))
        assert got.headers["x-model"] == model.version
    assert ask(app, "GET", "/nowhere").headers["x-model"] == model.version


ODD: list[Any] = [None, "text", 3, [], {}, [[1]], {"a": {"b": [1]}}, float("nan"), True]


@pytest.mark.parametrize("key", ["metrics", "objective", "data", "code", "packages", "parameters"])
def test_a_record_that_holds_anything_stops_no_start(
    trained: Path, tmp_path: Path, key: str
) -> None:
    copy = shutil.copytree(trained, tmp_path / "trial")
    result = json.loads((copy / "result.json").read_text())
    usual = result[key]
    for odd in [*ODD, *[{**usual, next(iter(usual)): odd} for odd in ODD]]:
        (copy / "result.json").write_text(json.dumps({**result, key: odd}))
        app = create(load(copy), Settings())
        for path in ("/v1/model", "/metrics"):
            answer = ask(app, "GET", path)
            assert answer.status_code == 200, (odd, answer.text)
        described = ask(app, "GET", "/v1/model").json()
        others = {"metrics", "objective", "code", "packages"} - {key}
        assert key == "parameters" or all(described[other] is not None for other in others)


# Drift


def statistics() -> Statistics:
    draws = np.random.default_rng(0)
    errors = np.sort(draws.gamma(4, 0.01, 100))
    return Statistics(errors, np.ones(4), np.zeros(4), np.ones(4))


def test_one_client_moves_no_drift_however_much_it_sends() -> None:
    draws = np.random.default_rng(1)
    drift = Drift(statistics(), window=256)
    for number in range(240):
        drift.add(f"10.0.0.{number % 20}", float(draws.gamma(4, 0.01)), draws.normal(size=4))
    honest = drift.measure()
    for _ in range(5000):
        drift.add("10.9.9.9", 1e6, np.full(4, 1e6))
    moved = drift.measure()
    assert abs(moved["reconstruction"] - honest["reconstruction"]) <= SHARE / 200
    assert abs(moved["latent"] - honest["latent"]) <= 4 * SHARE / 200
    assert moved["reconstruction"] < Settings().drift_reconstruction
    assert moved["latent"] < Settings().drift_latent


def test_nothing_is_said_of_few_clients() -> None:
    drift = Drift(statistics(), window=256)
    for number in range(FEWEST * 10):
        drift.add(f"10.0.0.{number % 7}", 1.0, np.ones(4))
    assert (drift.photos, drift.measure()) == (7 * SHARE, {})


def test_a_client_has_many_addresses_of_ipv6() -> None:
    assert client_of("2001:db8:1:2::3") == client_of("2001:db8:1:2:ffff::4")
    assert client_of("2001:db8:1:2::3") != client_of("2001:db8:1:3::3")
    assert client_of("10.0.0.1") != client_of("10.0.0.2")
