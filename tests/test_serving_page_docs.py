"""The API's description for people: its examples work when they are copied."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.browsers import visit
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOKEN = "open-sesame"
EXAMPLES = "pre.example"
MADE = {"images.png", "again.png", "both.png", "way.webp"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the photos that the examples name."""
    for name in ("photo.jpg", "from.jpg", "to.jpg"):
        Image.new("RGB", (40, 30), "orange").save(tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module", params=["open", "guarded"])
def service(
    request: pytest.FixtureRequest, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    token = {"VAESWEEP_TOKEN": TOKEN} if request.param == "guarded" else {}
    with run_service(trained, tmp_path_factory.mktemp("docs"), **token) as running:
        yield running


@pytest.mark.slow
@pytest.mark.trains
def test_every_example_works_as_it_is_copied(
    browser: Browser, service: Service, photos: Path
) -> None:
    with service.client() as client:
        guarded = client.get("/v1/model").status_code == 401
    with visit(browser, permissions=["clipboard-read", "clipboard-write"]) as window:
        opened = window.page
        opened.goto(f"{service.url}/docs")
        opened.wait_for_selector("button >> nth=0")
        opened.wait_for_load_state("networkidle")
        assert opened.is_visible("#token") == guarded
        copied = []
        for number in range(opened.locator(EXAMPLES).count()):
            opened.locator(f"{EXAMPLES} + button").nth(number).click()
            opened.wait_for_function(
                "n => document.querySelectorAll('pre.example + button')[n].innerText === 'Copied'",
                arg=number,
            )
            copied.append(opened.evaluate("navigator.clipboard.readText()"))
        assert copied == opened.locator(EXAMPLES).all_inner_texts()
        assert [error for error in window.errors if "401" not in error] == []
        paths = opened.locator("h2").all_inner_texts()
    assert len(copied) == len(paths) >= 9
    for path, command in zip(paths, copied, strict=True):
        assert service.url in command
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=photos,
            env={**os.environ, "no_proxy": "*", "VAESWEEP_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if done.stdout.startswith("{"):
            assert "detail" not in json.loads(done.stdout), path
    for name in MADE:
        with Image.open(photos / name) as made:
            made.load()
    drawn = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert drawn.keys() >= MADE
