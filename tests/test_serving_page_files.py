"""What the page's routes send: its own files, and the description of the API, made once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving import page


def asked(app: FastAPI, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.fixture
def pages() -> FastAPI:
    app = FastAPI(docs_url=None)
    app.include_router(page.build(app))
    return app


def test_the_description_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    build = page._docs

    def counted(schema: dict[str, Any]) -> str:
        made.append(schema)
        return build(schema)

    monkeypatch.setattr(page, "_docs", counted)
    app = FastAPI(docs_url=None)
    app.include_router(page.build(app))
    assert len({asked(app, "/docs").text for _ in range(3)}) == 1
    assert len(made) == 1


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/icon.svg", "/docs", "/docs.js"])
def test_a_file_that_a_browser_has_is_not_sent_again(pages: FastAPI, path: str) -> None:
    first, head = asked(pages, path), asked(pages, path, "HEAD")
    assert first.status_code == head.status_code == 200
    known = f'W/"other", {first.headers["etag"]}'
    again = asked(pages, path, **{"If-None-Match": known})
    assert (again.status_code, again.content) == (304, b"")
    assert asked(pages, path, **{"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("path", ["/__init__.py", "/docs.html.j2", "/index.html", "/..%2fapp.py"])
def test_only_the_files_of_the_page_are_served(pages: FastAPI, path: str) -> None:
    assert asked(pages, path).status_code == 404
