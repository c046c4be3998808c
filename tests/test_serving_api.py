"""The API as its clients meet it: a real process on loopback, fed good and bad requests."""

from __future__ import annotations

import asyncio
import io
import json
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.api.service import create
from serving.api.settings import Settings
from serving.model import latents
from serving.model.checkpoints import load
from tests.services import Service, run_service
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with run_service(
        trained, directory, "--max-megapixels", "1", "--max-mebibytes", "1"
    ) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def encoded(kind: str = "PNG", size: tuple[int, int] = (40, 30), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def test_the_same_seed_gives_the_same_bytes_also_beside_other_requests(service: Service) -> None:
    def generate(seed: int) -> tuple[int, bytes]:
        with service.client() as client:
            answer = client.post("/v1/generate", json={"seed": seed % 4, "count": 1 + seed % 4})
        assert answer.status_code == 200
        assert answer.headers["x-seed"] == str(seed % 4)
        return seed % 4, answer.content

    alone = dict(map(generate, range(4)))
    assert len(set(alone.values())) == 4
    with ThreadPoolExecutor(16) as pool:
        for seed, content in pool.map(generate, range(48)):
            assert content == alone[seed]


def test_images_can_be_drawn_again_from_their_latents(client: httpx.Client) -> None:
    made = client.post(
        "/v1/generate?format=json", json={"count": 3, "seed": 5, "temperature": 0.5}
    ).json()
    assert made["seed"] == 5
    np.testing.assert_allclose(made["latents"], latents.draw(3, 4, seed=5, temperature=0.5))
    again = client.post("/v1/decode?format=json", json={"latents": made["latents"]}).json()
    assert again["images"] == made["images"]
    image = Image.open(io.BytesIO(b64decode(made["images"][0])))
    assert (image.format, image.size) == ("PNG", (32, 32))
    first = client.post("/v1/generate", json={}).headers["x-seed"]
    assert first != client.post("/v1/generate", json={}).headers["x-seed"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_photo_is_reconstructed_and_scored(client: httpx.Client, kind: str) -> None:
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio

    files = {"photos": ("../../etc/passwd", encoded(kind))}
    found = client.post("/v1/reconstruct?format=json", files=files).json()
    x, x_hat = (
        torch.tensor(np.asarray(Image.open(io.BytesIO(b64decode(found[key][0]))))).float() / 255
        for key in ("photos", "images")
    )
    expected = peak_signal_noise_ratio(x_hat, x, data_range=1.0)
    assert found["metrics"][0]["psnr"] == pytest.approx(float(expected), abs=0.05)
    assert client.post("/v1/encode", files=files).json()["mean"] == found["latents"]


def test_between_two_photos_lie_images_of_both_ends(client: httpx.Client) -> None:
    photos = [encoded(seed=1), encoded(seed=2)]
    files = dict(zip(("first", "second"), photos, strict=True))
    path = client.post("/v1/interpolate?format=json&steps=5", files=files).json()
    ends = client.post("/v1/reconstruct?format=json", files=[("photos", p) for p in photos]).json()
    assert [path["images"][0], path["images"][-1]] == ends["images"]
    for kind in ("png", "gif", "webp"):
        answer = client.post(f"/v1/interpolate?format={kind}", files=files)
        assert answer.headers["content-type"] == f"image/{kind}"
        assert Image.open(io.BytesIO(answer.content)).format == kind.upper()


def test_the_service_says_what_it_serves_but_not_where(client: httpx.Client, trained: Path) -> None:
    info = client.get("/v1/model")
    told = info.json()
    assert told["data"]["name"] == "cats"
    assert (told["loss"]["name"], told["latent_dim"]) == ("mse", 4)
    assert told["metrics"]["val"]["psnr"] > 0
    assert str(trained) not in info.text
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").text == "ready"


def test_every_answer_carries_the_security_headers_and_no_cors(client: httpx.Client) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    for path in ("/", "/app.js", "/docs", "/nowhere", "/v1/model"):
        headers = client.get(path, headers=origin).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/generate", {"count": 257}, "`count` must be at most 256, but got 257"),
        ("/v1/generate", {"count": 0}, "`count`: Input should be greater than or equal to 1"),
        ("/v1/generate", {"temperature": 3.5}, "`temperature` must be at most 3, but got 3.5"),
        ("/v1/generate", {"seed": -1}, "greater than or equal to 0"),
        ("/v1/generate", {"sede": 1}, "`sede`: Extra inputs are not permitted"),
        ("/v1/generate", {"\ud800": 1}, "unable to parse raw data as a unicode string"),
        ("/v1/decode", {"latents": [[1, 2, 3]]}, "each latent must have 4 values, but got 3"),
        ("/v1/decode", {"latents": [[1e300, 0, 0, 0]]}, "less than or equal to 100"),
    ],
)
def test_what_is_out_of_range_is_refused(
    client: httpx.Client, path: str, body: dict[str, Any], told: str
) -> None:
    data = json.dumps(body)  # all ASCII, unlike httpx's own
    answer = client.post(path, content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


def test_a_body_is_bounded_and_says_its_length(client: httpx.Client) -> None:
    large = encoded() + b"\0" * 2**20
    assert client.post("/v1/encode", files={"photos": large}).status_code == 413

    def unannounced() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * 2**16

    answer = client.post("/v1/generate", content=unannounced())
    assert answer.status_code == 411
    assert "Content-Length" in answer.text


def test_metrics_count_requests_by_route(client: httpx.Client, service: Service) -> None:
    name = 'vaesweep_requests_total{method="POST",route="/v1/decode",status="422"}'
    client.post("/v1/decode", json={})
    before = service.metric(name)
    client.post("/v1/decode", json={})
    assert service.metric(name) == before + 1
    text = client.get("/metrics").text
    assert 'vaesweep_request_seconds_bucket{le="1.0",route="/v1/decode"}' in text
    assert 'vaesweep_model_info{latent_dim="4",loss="mse"' in text


def test_photos_from_elsewhere_are_noticed(service: Service) -> None:
    files = [("photos", encoded(seed=seed)) for seed in range(16)]
    for number in range(2, 12):
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{number}")
        with httpx.Client(base_url=service.url, transport=transport, timeout=PATIENCE) as other:
            assert other.post("/v1/reconstruct", files=files).status_code == 200
    drift = service.metric('vaesweep_drift{kind="reconstruction"}')
    assert drift > service.metric('vaesweep_drift_threshold{kind="reconstruction"}')
    assert service.metric("vaesweep_drift_photos") >= 128


def test_a_token_guards_the_api(trained: Path, tmp_path: Path) -> None:
    with (
        run_service(trained, tmp_path, VAESWEEP_TOKEN="open-sesame") as service,
        service.client() as client,
    ):
        for path in ("/v1/model", "/metrics"):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "open-sesame"}):
                answer = client.get(path, headers=header)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            assert (
                client.get(path, headers={"Authorization": "Bearer open-sesame"}).status_code == 200
            )
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200


def test_an_application_that_is_started_again_answers_as_before(trained: Path) -> None:
    app = create(load(trained), Settings(timeout=PATIENCE))

    async def answer() -> httpx.Response:
        told: asyncio.Queue[Any] = asyncio.Queue()
        said: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        life = asyncio.create_task(_run(app, scope, told, said))
        await told.put({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            found = await client.post("/v1/generate", json={"seed": 3})
        await told.put({"type": "lifespan.shutdown"})
        await life
        return found

    first, again = asyncio.run(answer()), asyncio.run(answer())
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content


async def _run(app: Any, scope: Any, told: asyncio.Queue[Any], said: asyncio.Queue[Any]) -> None:
    await app(scope, told.get, said.put)
