"""The service as an ASGI application: routes, refusals, health and metrics."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from experiments.data.decoding.decode import BadImageError
from serving import page
from serving.api import routes
from serving.api.batching import QueueFullError
from serving.api.engine import Engine
from serving.api.guard import Guard, bearer
from serving.api.settings import Settings
from serving.model.checkpoints import Model
from serving.monitoring.telemetry import Telemetry

log = logging.getLogger(__name__)


def create(model: Model, settings: Settings, token: str | None = None) -> ASGIApp:
    """The whole service, ready to be run by an ASGI server.

    Args:
        model: that is served.
        settings: its limits.
        token: that requests of the API must bear; None asks for none.
    """
    telemetry = Telemetry()
    engine = Engine(model, settings, telemetry)
    telemetry.model.info(_labels(model))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.warm_up()
        telemetry.watch_memory(lambda: engine.processes)
        app.state.ready = True
        yield
        app.state.ready = False
        engine.close()

    app = FastAPI(
        title="vaesweep",
        version=model.version,
        summary="Images from a variational auto-encoder",
        docs_url=None,  # theirs load scripts from elsewhere; see `serving.page`
        redoc_url=None,
        lifespan=lifespan,
        # One more than may be, so that two can be sent where a request may hold one.
        form_limits={"max_files": settings.max_images + 1, "max_fields": 8, "max_part_size": 4096},
    )
    app.state.ready = False
    telemetry.watch_ready(lambda: app.state.ready)
    secured = [Security(bearer)] if token is not None else []

    @app.exception_handler(BadImageError)
    async def bad_image(request: Request, error: BadImageError) -> JSONResponse:
        return JSONResponse({"detail": f"a photo cannot be used: {error}"}, 415)

    @app.exception_handler(QueueFullError)
    async def full(request: Request, error: QueueFullError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)}
        return JSONResponse({"detail": str(error)}, 429, headers)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, OSError):  # which FastAPI makes the client's broken body
            log.error("an upload cannot be kept: %s", error.__cause__)
            return JSONResponse(
                {"detail": "the server has no room for uploads; tell its owner"}, 507
            )
        if str(error.detail).startswith("Too many files"):  # of which the form has one more
            told = f"`photos` must be at most {settings.max_images}, but got more"
            return JSONResponse({"detail": told}, 422)
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "; ".join(map(_told, error.errors()[:20]))}, 422)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process lives."""
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {}})
    async def readyz() -> PlainTextResponse:
        """Whether the model is there; who comes while the queue is full is told so by a 429."""
        if app.state.ready:
            return PlainTextResponse("ready")
        return PlainTextResponse("not ready", 503)

    @app.get("/metrics", response_class=PlainTextResponse, dependencies=secured)
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(telemetry.text(), media_type=CONTENT_TYPE_LATEST)

    app.include_router(routes.build(engine, settings), dependencies=secured)
    app.include_router(page.build(app))
    units = model.network.latent_dim
    bodies = {path: limit(settings, units) for path, limit in routes.BODIES.items()}
    guarded = Guard(app, settings, telemetry, model=model.version, token=token, bodies=bodies)
    if not settings.cors:
        return guarded
    # Outside, as browsers ask for permission without the token, and may read refusals, too.
    return CORSMiddleware(
        guarded,
        allow_origins=list(settings.cors),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["X-Seed", "X-Model", "Retry-After"],
    )


def _told(error: Mapping[str, Any]) -> str:
    """Where and why, without the value that came in, which may be long or not even text."""
    where = ".".join(map(str, error["loc"][1:]))[:100] or "body"
    where = where.encode("ascii", "backslashreplace").decode()
    if error["type"] == "json_invalid":
        return f"the body must be JSON, but at character {where} of it: {error['ctx']['error']}"
    if (error["type"] == "missing" and where == "body") or isinstance(error.get("input"), bytes):
        return "the body must be JSON: send `Content-Type: application/json`"
    name = where.partition(".")[0]
    if "UploadFile" in error["msg"] or (error["type"] == "missing" and name in routes.PHOTOS):
        return f"`{name}` must be a photo with a filename: send a form: curl -F {name}=@FILE"
    return f"`{where}`: {error['msg']}"


def _labels(model: Model) -> dict[str, str]:
    """Whatever the record says, as text that a line can hold."""
    parameters = model.trained.result.get("parameters") if model.trained is not None else None
    loss = parameters.get("loss.name", "") if isinstance(parameters, Mapping) else ""
    return {
        "version": model.version,
        "network": model.name,
        "latent_dim": str(model.network.latent_dim),
        "loss": str(loss)[:100].encode(errors="backslashreplace").decode(),
    }
