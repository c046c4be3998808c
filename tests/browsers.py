"""A real browser for the tests of pages, and what a page did behind its reader's back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.servers import missing
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def run_browser() -> Iterator[Browser]:
    """A headless Chromium; a test that needs one is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("needs Chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work as root, as which containers run.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


@dataclass
class Visit:
    """A page in a window of its own, with what it complained of and asked the network for.

    Attributes:
        page: Playwright's.
        errors: of its console and its scripts, and loads that its policy refused.
        requests: addresses; those within the page (data: and blob:) are none.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: Any) -> None:
        of_the_machine = "GL Driver Message" in message.text  # without a graphics card
        if message.type in ("error", "warning") and not of_the_machine:
            self.errors.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.requests.append(url)


@contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Visit]:
    """A fresh window; options are those of Playwright's `new_context`."""
    context = browser.new_context(**options)
    try:
        yield Visit(context.new_page())
    finally:
        context.close()
