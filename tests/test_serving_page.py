"""The page in a real browser: what a person does, and what the page does behind their back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.browsers import visit
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.trains]

LAST = "#grid img >> nth=63"


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(trained, tmp_path_factory.mktemp("page")) as running:
        yield running


def source(page: Page, selector: str) -> str:
    return page.locator(selector).first.get_attribute("src") or ""


def changed(page: Page, selector: str, before: str) -> str:
    """The picture there, as soon as it is another than `before`."""
    page.wait_for_function(
        "([s, b]) => document.querySelector(s)?.src && document.querySelector(s).src !== b",
        arg=[selector, before],
    )
    return source(page, selector)


def test_a_person_draws_changes_and_shares_images(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        first = source(page, "#grid img")
        page.click("#refresh")
        second = changed(page, "#grid img", first)
        assert page.input_value("#seed") != "7"
        page.fill("#seed", "7")
        page.press("#seed", "Enter")
        assert changed(page, "#grid img", second) == first
        assert "seed=7&" in page.url
        assert (page.get_attribute("#share", "href") or "missing") in page.url

        page.locator("#grid button").nth(5).click()
        page.wait_for_function(
            "() => document.querySelector('#preview').src"
            " === document.querySelectorAll('#grid img')[5].src"
        )
        chosen = source(page, "#preview")
        page.locator("#sliders input").first.fill("4")
        moved = changed(page, "#preview", chosen)
        assert page.locator("#sliders output").first.inner_text() == "4.00"
        page.click("#reset")
        assert changed(page, "#preview", moved) == chosen
        assert window.errors == []
        assert all(url.startswith(service.url) for url in window.requests)


def test_the_keyboard_does_what_the_mouse_does(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        first = source(page, "#grid img")
        page.keyboard.press("r")
        second = changed(page, "#grid img", first)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "refresh"
        page.keyboard.press("Enter")
        changed(page, "#grid img", second)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.locator("#grid button").nth(9).press("Space")
        assert page.get_attribute("#grid button >> nth=9", "aria-pressed") == "true"
        before = changed(page, "#preview", "")
        page.locator("#sliders input").first.press("End")
        changed(page, "#preview", before)
        page.focus("#seed")
        page.keyboard.type("r")  # a letter in a field is a letter
        assert page.input_value("#seed").endswith("r")
        assert window.errors == []


def test_a_person_on_a_phone_sees_their_photo_and_the_way_to_another(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    photo, other = (str(tmp_path / f"{colour}.png") for colour in ("black", "white"))
    for path in (photo, other):
        Image.new("RGB", (40, 30), Path(path).stem).save(path)
    with visit(browser, viewport={"width": 380, "height": 800}, color_scheme="dark") as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        page.set_input_files("#photo", photo)
        page.wait_for_selector("#made", state="visible")
        row = page.locator("#metrics tr", has_text="MS-SSIM").inner_text()
        assert float(row.split()[1]) <= 1
        assert page.inner_text("#metrics").startswith("PSNR") or " dB" in page.inner_text(
            "#metrics"
        )
        assert source(page, "#seen") != source(page, "#made") != ""
        page.set_input_files("#first", photo)
        page.set_input_files("#second", other)
        page.wait_for_selector("#frame", state="visible")
        middle = source(page, "#frame")
        page.press("#step", "Home")
        assert changed(page, "#frame", middle) == source(page, "#made")
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(21, 25, 27)"
        assert window.errors == []


def test_the_page_names_metrics_as_the_service_does(browser: Browser, service: Service) -> None:
    def other(route: Route) -> None:
        answer = route.fetch()
        model = answer.json()
        model["objective"] = {"names": ["edges"], "values": [0.0123]}
        model["measures"]["edges"] = {"title": "Edge error", "unit": "levels"}
        route.fulfill(response=answer, json=model)

    with visit(browser) as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        assert ", PSNR " in page.inner_text("#about")
        assert page.inner_text("#about").endswith(" dB")
        page.route("**/v1/model", other)
        page.reload()
        page.wait_for_selector(LAST)
        assert page.inner_text("#about").endswith(", Edge error 0.0123 levels")


def test_what_cannot_be_used_is_told_on_the_page(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    text = tmp_path / "photo.png"
    text.write_text("<script>alert(1)</script>")
    with visit(browser) as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        page.set_input_files("#photo", str(text))
        page.wait_for_selector("#status.bad")
        assert "a photo cannot be used: not a JPEG" in page.inner_text("#status")
        assert page.is_hidden("#reconstruction")
        # The browser itself reports the refusal, and nothing else is wrong.
        assert [error for error in window.errors if "415" not in error] == []


def test_a_photo_chosen_while_images_are_drawn_stays_chosen(
    browser: Browser, service: Service, trained: Path
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        first = source(page, "#grid img")
        held: list[Route] = []
        page.route("**/v1/generate*", lambda route: held.append(route))
        page.click("#refresh")
        page.set_input_files("#photo", str(trained / "samples.png"))
        page.wait_for_selector("#made", state="visible")
        made = source(page, "#made")
        page.wait_for_function("made => document.querySelector('#preview').src === made", arg=made)
        held.pop().continue_()
        changed(page, "#grid img", first)
        assert page.locator("#grid [aria-pressed=true]").count() == 0
        with page.expect_response("**/v1/decode*"):
            page.click("#reset")
        assert source(page, "#preview") == made
        assert window.errors == []


def test_a_refusal_stays_to_be_read_when_other_work_ends_well(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    text = tmp_path / "photo.png"
    text.write_text("no photo")
    with visit(browser) as window:
        page = window.page
        held: list[Route] = []
        drawing: list[Route] = []
        page.route("**/v1/generate*", lambda route: drawing.append(route))
        page.route("**/v1/decode*", lambda route: held.append(route))
        with page.expect_request("**/v1/generate*"):
            page.goto(service.url)
        assert page.is_disabled("#reset")  # there is nothing to go back to yet
        while not drawing:
            page.wait_for_timeout(10)
        drawing.pop().continue_()
        page.wait_for_selector(LAST)
        with page.expect_response("**/v1/reconstruct*"):
            page.set_input_files("#photo", str(text))
        page.wait_for_selector("#status.bad")
        held.pop().continue_()
        changed(page, "#preview", "")
        assert "a photo cannot be used" in page.inner_text("#status")


def test_a_service_with_a_token_asks_for_it_on_the_page(
    browser: Browser, trained: Path, tmp_path: Path
) -> None:
    with (
        run_service(trained, tmp_path, VAESWEEP_TOKEN="open sesame") as guarded,
        visit(browser) as window,
    ):
        page = window.page
        page.goto(guarded.url)
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        page.wait_for_selector("#access", state="visible")
        page.fill("#token", "open sesame")
        page.press("#token", "Enter")
        page.wait_for_selector(LAST)
        assert page.is_hidden("#access")
        assert [error for error in window.errors if "401" not in error] == []
