"""The routes of the service."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, File, HTTPException, Query, Request, Response, UploadFile
from pydantic import BaseModel
from torch import Tensor

from experiments.scoring.pictures import Picture, grid, reconstruction_grid
from serving.api.about import describe
from serving.api.engine import Engine
from serving.api.messages import (
    DecodeRequest,
    Encoded,
    Generated,
    GenerateRequest,
    Images,
    ModelInfo,
    Problem,
    Reconstructions,
)
from serving.api.settings import Settings
from serving.api.uploads import Read
from serving.encoding import animation, base64_png, png
from serving.model import latents

_FEW = 16
"""Images in an answer that costs little."""

_NICE = 10  # of threads that make large answers
_FRAME = 256
"""Pixels that a frame of an animation is wide at least."""

Format = Annotated[Literal["png", "json"], Query(description="of the answer")]
Motion = Annotated[Literal["png", "gif", "webp", "json"], Query(description="of the answer")]
Photos = Annotated[
    list[UploadFile],
    File(min_length=1, description="JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF"),
]
Photo = Annotated[UploadFile, File(description="JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF or TIFF")]
PHOTOS = ("photos", "first", "second")
"""What forms name them."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "the body cannot be read",
        401: "a bearer token is needed",
        408: "the request came too slowly",
        411: "the header Content-Length is missing",
        413: "the body is too large",
        415: "a photo is no image that can be used",
        422: "a value is missing, unknown or out of range",
        429: "too many requests are waiting; see Retry-After",
        503: "too many large requests at once; see Retry-After",
        504: "the answer took too long",
        507: "the server cannot keep uploads",
    }.items()
}

BODIES: dict[str, Callable[[Settings, int], int]] = {
    "/v1/generate": lambda settings, _: settings.max_json(0),
    "/v1/decode": Settings.max_json,
    **dict.fromkeys(
        ("/v1/encode", "/v1/reconstruct", "/v1/interpolate"), lambda settings, _: settings.max_bytes
    ),
}
"""Bytes that the body of a path may have, by the service's limits and the model's latent units."""


def _step_back() -> None:
    """Let the system run this thread after the others."""
    if sys.platform == "linux":  # elsewhere this would be the whole process
        os.nice(_NICE)


def _pictures(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {f"image/{kind}": {} for kind in kinds}}}


def build(engine: Engine, settings: Settings) -> APIRouter:
    """The routes under /v1, in front of `engine`."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    info = describe(engine.model, settings).model_dump_json()
    units = engine.model.network.latent_dim
    large = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), "large", _step_back)

    async def answer(images: int, make: Callable[[], bytes]) -> bytes:
        """What `make` gives; large answers wait for each other only."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(large if images > _FEW else None, make)

    async def as_png(
        images: int, make: Callable[[], Picture], headers: dict[str, str] | None = None
    ) -> Response:
        data = await answer(images, lambda: png(make()))
        return Response(data, media_type="image/png", headers=headers)

    async def as_json(images: int, make: Callable[[], BaseModel]) -> Response:
        data = await answer(images, lambda: make().model_dump_json().encode())
        return Response(data, media_type="application/json")

    @router.get("/model", response_model=ModelInfo)
    async def model() -> Response:
        """What is served: architecture, data, loss, scores and this service's limits."""
        return Response(info, media_type="application/json")

    @router.post("/generate", response_model=Generated, responses=_pictures("png"))
    async def generate(body: GenerateRequest, format: Format = "png") -> Response:  # noqa: A002
        """New images from the prior; a PNG is a square grid, with the seed in the header X-Seed."""
        _bound("count", body.count, settings.max_images)
        _bound("temperature", body.temperature, settings.max_temperature)
        seed = secrets.randbelow(2**31) if body.seed is None else body.seed
        z = latents.draw(body.count, units, seed=seed, temperature=body.temperature)
        images = await engine.decode(z)
        if format == "png":
            columns = max(1, round(body.count**0.5))
            return await as_png(
                body.count, lambda: grid(images, columns=columns), {"X-Seed": str(seed)}
            )
        return await as_json(
            body.count,
            lambda: Generated(
                images=_encoded(images),
                latents=z.tolist(),
                seed=seed,
                temperature=body.temperature,
            ),
        )

    @router.post("/decode", response_model=Images, responses=_pictures("png"))
    async def decode(body: DecodeRequest, format: Format = "png") -> Response:  # noqa: A002
        """The images of given latents."""
        _bound("latents", len(body.latents), settings.max_images)
        wrong = [len(point) for point in body.latents if len(point) != units]
        if wrong:
            raise HTTPException(422, f"each latent must have {units} values, but got {wrong[0]}")
        images = await engine.decode(torch.tensor(body.latents, dtype=torch.float32))
        if format == "png":
            return await as_png(len(images), lambda: grid(images))
        return await as_json(
            len(images), lambda: Images(images=_encoded(images), latents=body.latents)
        )

    @router.post("/encode")
    async def encode(photos: Photos) -> Encoded:
        """The posterior of each photo."""
        _, mean, log_variance = await engine.encode(_read(photos, settings))
        return Encoded(mean=mean.tolist(), log_variance=log_variance.tolist())

    @router.post("/reconstruct", response_model=Reconstructions, responses=_pictures("png"))
    async def reconstruct(
        request: Request,
        photos: Photos,
        format: Format = "png",  # noqa: A002
    ) -> Response:
        """Photos and their reconstructions; JSON adds the metrics of each."""
        client = request.client.host if request.client is not None else ""
        found = await engine.reconstruct(_read(photos, settings), client)
        if format == "png":
            return await as_png(len(found.x), lambda: reconstruction_grid(found.x, found.x_hat))
        return await as_json(
            len(found.x),
            lambda: Reconstructions(
                photos=_encoded(found.x),
                images=_encoded(found.x_hat),
                latents=found.mean.tolist(),
                metrics=found.metrics,
            ),
        )

    @router.post("/interpolate", response_model=Images, responses=_pictures("png", "gif", "webp"))
    async def interpolate(
        first: Photo,
        second: Photo,
        steps: Annotated[int, Query(ge=2, le=64)] = 9,
        format: Motion = "png",  # noqa: A002
    ) -> Response:
        """The way from one photo to another, as a strip, an animation or single images."""
        _, mean, _ = await engine.encode(_read([first, second], settings))
        path = latents.interpolate(mean[0], mean[1], steps)
        images = await engine.decode(path)
        if format == "png":
            return await as_png(steps, lambda: grid(images, columns=steps))
        if format == "json":
            return await as_json(
                steps, lambda: Images(images=_encoded(images), latents=path.tolist())
            )
        data = await answer(_FEW + 1, lambda: _animated(images, format))
        return Response(data, media_type=f"image/{format}")

    return router


def _bound(name: str, value: float, most: float) -> None:
    if value > most:
        raise HTTPException(422, f"`{name}` must be at most {most:g}, but got {value:g}")


def _read(photos: list[UploadFile], settings: Settings) -> list[Read]:
    _bound("photos", len(photos), settings.max_images)
    return [partial(_content, photo) for photo in photos]


def _content(photo: UploadFile) -> bytes:
    photo.file.seek(0)
    return photo.file.read()


def _encoded(images: Tensor) -> list[str]:
    return [base64_png(image) for image in images.numpy()]


def _animated(images: Tensor, kind: str) -> bytes:
    return animation(map(_frame, images), kind)


def _frame(image: Tensor) -> Picture:
    """An image (C, H, W), enlarged as in `grid`, but to half of its width: there are many."""
    factor = -(-_FRAME // image.shape[2])
    pixels: Picture = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
