"""The page for people, and the API's description, with nothing from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

if TYPE_CHECKING:
    from fastapi import FastAPI

_HERE = Path(__file__).parent
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def build(app: FastAPI) -> APIRouter:
    """Routes of the page. All files are read now: no request names one."""
    router = APIRouter(include_in_schema=False)
    content = {name: (_HERE / name).read_bytes() for name in _FILES}

    def serve(path: str, name: str) -> None:
        async def answer() -> Response:
            headers = {"Cache-Control": "no-cache"}
            return Response(content[name], media_type=_FILES[name], headers=headers)

        router.add_api_route(path, answer, methods=["GET"])

    serve("/", "index.html")
    for name in ("app.js", "style.css", "icon.svg"):
        serve(f"/{name}", name)

    @router.get("/docs")
    async def docs() -> Response:
        return Response(_docs(app.openapi()), media_type="text/html; charset=utf-8")

    return router


def _docs(schema: dict[str, Any]) -> str:
    """The OpenAPI description as a plain page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    return environment.get_template("docs.html.j2").render(api=schema)
