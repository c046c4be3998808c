"""The page for people, and the API's description, with nothing from elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

if TYPE_CHECKING:
    from fastapi import FastAPI

_Answer = Callable[[Request], Awaitable[Response]]
_HERE = Path(__file__).parent
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_JSON = "curl -H 'Content-Type: application/json' -d"
_ADDRESS = "http://127.0.0.1:8000"  # `docs.js` puts the service's own in its place
_DRAWN = f'{_JSON} \'{{"count": 4, "seed": 7}}\''
_EXAMPLES = {
    "/v1/generate": f"{_DRAWN} -o images.png {_ADDRESS}/v1/generate",
    "/v1/decode": f"{_DRAWN} '{_ADDRESS}/v1/generate?format=json' |\n"
    r"""  sed 's/.*\("latents":.*\),"seed".*/{\1}/' |"""
    f"\n  {_JSON} @- -o again.png {_ADDRESS}/v1/decode",
    "/v1/encode": f"curl -F photos=@photo.jpg {_ADDRESS}/v1/encode",
    "/v1/reconstruct": f"curl -F photos=@photo.jpg -o both.png {_ADDRESS}/v1/reconstruct",
    "/v1/interpolate": "curl -F first=@from.jpg -F second=@to.jpg -o way.webp "
    f"'{_ADDRESS}/v1/interpolate?steps=17&format=webp'",
}
"""Commands that work as they stand, where the photos are; of the other paths it is `curl` alone."""


def build(app: FastAPI) -> APIRouter:
    """Routes of the page. All files are read now: no request names one."""
    router = APIRouter(include_in_schema=False)
    for file in _HERE.iterdir():
        if file.suffix in _KINDS:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            answer = _answers(file.read_bytes(), _KINDS[file.suffix])
            router.add_api_route(path, answer, methods=["GET", "HEAD"])

    @cache
    def docs() -> _Answer:
        return _answers(_docs(app.openapi()).encode(), "text/html")

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def described(request: Request) -> Response:
        return await docs()(request)

    return router


def _answers(content: bytes, kind: str) -> _Answer:
    """A route that sends the content, or says that a browser has it already."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": "no-cache", "ETag": etag}

    async def answer(request: Request) -> Response:
        if etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer


def _docs(schema: dict[str, Any]) -> str:
    """The OpenAPI description as a plain page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    examples = {path: _EXAMPLES.get(path, f"curl {_ADDRESS}{path}") for path in schema["paths"]}
    return environment.get_template("docs.html.j2").render(api=schema, examples=examples)
