"""The page in a real browser: drawing images, choosing one, changing it, and passing it on."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browsers import visit
from tests.pages import LAST, PHONE, WIDE, changed, focused, silence, source, strip, told
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(trained, tmp_path_factory.mktemp("page")) as running:
        yield running


def settled(page: Page, part: str) -> None:
    """Wait until the address says it."""
    page.wait_for_function("part => location.search.includes(part)", arg=part)


def test_a_person_draws_chooses_and_changes_images(browser: Browser, service: Service) -> None:
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
        settled(page, "seed=7&")

        page.locator("#grid button").nth(5).click()
        chosen = source(page, "#preview")
        assert chosen == source(page, "#grid img >> nth=5")
        page.locator("#sliders input").first.fill("3")
        moved = changed(page, "#preview", chosen)
        assert page.locator("#sliders output").first.inner_text() == "3.00"
        assert page.get_attribute("#preview", "alt") == "Image 6, changed"
        page.click("#reset")
        assert changed(page, "#preview", moved) == chosen
        page.locator("#temperature").fill("0")
        calm = changed(page, "#grid img", first)
        assert calm == source(page, LAST)
        silence(page)
        assert window.errors == []
        assert all(url.startswith(service.url) for url in window.requests)


def test_pictures_show_where_each_slider_leads_from_the_chosen_image(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        assert page.locator(".unit").count() == 4
        pictures = [strip(page, number) for number in range(4)]
        assert all(len(set(one)) == 7 for one in pictures)
        slider = page.locator("#sliders input").nth(1)
        for value, wanted in (("-3", pictures[1][0]), ("1", pictures[1][4])):
            before = source(page, "#preview")
            slider.fill(value)
            assert changed(page, "#preview", before) == wanted
        # What one slider changes is where the others start from.
        page.wait_for_function(
            "before => document.querySelector('.unit img').src !== before", arg=pictures[0][0]
        )
        assert strip(page, 1) == pictures[1]
        before = strip(page)[0]
        page.locator("#grid button").nth(9).click()
        changed(page, ".unit img", before)
        assert not set(strip(page, 1)) & set(pictures[1])
        assert window.errors == []


def test_a_slider_that_moves_asks_for_one_picture_at_a_time(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        strip(page)
        asked: list[Route] = []
        page.route("**/v1/decode*", lambda r: r.continue_() if asked else asked.append(r))
        before = source(page, "#preview")
        # All within one task of the browser, without the event that ends a movement.
        with page.expect_request("**/v1/decode*"):
            page.locator("#sliders input").first.evaluate(
                "input => { for (let v = -3; v < 3; v += 0.1) {"
                " input.value = v; input.dispatchEvent(new Event('input')); } }"
            )
        last = page.locator("#sliders output").first.inner_text()
        count = len(window.requests)
        while not asked:
            page.wait_for_timeout(10)
        with page.expect_request("**/v1/decode*") as final:
            asked[0].continue_()
        assert float(last) in (final.value.post_data_json or {})["latents"][0]
        changed(page, "#preview", before)
        assert len(window.requests) == count + 1
        assert window.errors == []


def test_an_image_that_is_chosen_gives_up_what_was_asked_for_another(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        strip(page)
        page.route("**/v1/decode*", lambda route: None)
        with page.expect_request("**/v1/decode*"):
            page.locator("#sliders input").first.fill("3")
        with page.expect_event("requestfailed"):
            page.locator("#grid button").nth(3).click()
        assert source(page, "#preview") == source(page, "#grid img >> nth=3")
        silence(page)


def test_a_link_has_the_seed_the_image_and_the_sliders(browser: Browser, service: Service) -> None:
    with visit(browser, permissions=["clipboard-read", "clipboard-write"]) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7&temperature=0.8")
        page.wait_for_selector(LAST)
        page.locator("#grid button").nth(40).click()
        for number, value in enumerate(("2", "-1.5")):
            before = source(page, "#preview")
            page.locator("#sliders input").nth(number).fill(value)
            changed(page, "#preview", before)
        page.click("#copy")
        page.wait_for_selector("text=Link copied.")
        link = page.evaluate("navigator.clipboard.readText()")
        settled(page, link.split("?")[1])
        wanted, texts = source(page, "#preview"), page.locator("#sliders output").all_inner_texts()
        assert window.errors == []
    for options in (WIDE, PHONE):  # which shows fewer images
        with visit(browser, **options) as window:
            page = window.page
            page.goto(link)
            page.wait_for_function(
                "wanted => document.querySelector('#preview').src === wanted", arg=wanted
            )
            assert page.locator("#sliders output").all_inner_texts() == texts
            assert page.get_attribute("#grid button >> nth=40", "aria-checked") == "true"
            assert page.input_value("#seed") == "7"
            assert page.input_value("#temperature") == "0.8"
            silence(page)
            assert window.errors == []


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("seed=-1", "seed=-1"),
        ("seed=", "seed="),
        ("seed=9007199254740992&temperature=", "seed=9007199254740992, temperature="),
        ("seed=7&temperature=NaN&image=0", "temperature=NaN, image=0"),
        (
            "seed=7&image=999999&z99=1&z0=1e9&z1=&z2=x&utm_source=mail",
            "image=999999, z99=1, z0=1e9, z1=, z2=x",
        ),
    ],
)
def test_a_link_with_nonsense_in_it_still_opens_and_says_what_is_left_out(
    browser: Browser, service: Service, query: str, left: str
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?{query}")
        page.wait_for_selector(LAST)
        assert source(page, "#preview") == source(page, "#grid img")
        assert page.input_value("#temperature") == "1"
        told(page, "status", f"Left out of the link, as this model cannot have it: {left}")
        silence(page, "status")
        assert window.errors == []


def test_a_link_may_have_any_seed_that_the_service_takes(
    browser: Browser, service: Service
) -> None:
    largest = str(2**53 - 1)
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed={largest}&z0=-0.001")
        page.wait_for_selector(LAST)
        settled(page, f"seed={largest}&")
        assert page.input_value("#seed") == largest
        assert page.inner_text("[title^='Latent unit 0'] output") == "0.00", "without a sign"
        before = source(page, "#grid img")
        for seed, valid in ((largest[:-1] + "2", False), ("8" * 16, True)):
            page.fill("#seed", seed)
            page.press("#seed", "Enter")
            assert page.evaluate("document.querySelector('#seed').validity.valid") is valid
        changed(page, "#grid img", before)
        silence(page)
        assert window.errors == []


def test_a_link_of_another_model_says_so(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7&model=0123abcd")
        page.wait_for_selector(LAST)
        assert "made with another model" in page.inner_text("#status")


def test_a_link_can_be_copied_where_the_clipboard_is_forbidden(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.add_init_script("delete Navigator.prototype.clipboard")
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        page.click("#copy")
        page.wait_for_selector("#link", state="visible")
        assert page.evaluate("getSelection().toString()") == page.input_value("#link")
        assert page.input_value("#link").startswith(f"{service.url}/?seed=7&")
        page.locator("#grid button").nth(5).click()
        assert page.is_hidden("#link")  # an old link is no link to this
        assert window.errors == []


def test_the_chosen_image_is_downloaded_as_it_is_shown(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        before = source(page, "#preview")
        page.locator("#sliders input").first.fill("3")
        shown = changed(page, "#preview", before)
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "seed-7-image-1-changed.png"
        assert download.value.path().read_bytes() == b64decode(shown.split(",")[1])
        assert window.errors == []


def test_the_keyboard_does_what_the_mouse_does(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        first = source(page, "#grid img")
        page.keyboard.press("r")
        second = changed(page, "#grid img", first)
        page.keyboard.press("Tab")
        assert focused(page) == "refresh"
        page.keyboard.press("Enter")
        third = changed(page, "#grid img", second)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"

        # The grid is one stop, and arrows lead through it.
        stops = []
        for _ in range(8):
            page.keyboard.press("Tab")
            stops.append(focused(page))
        assert stops[:6] == ["seed", "temperature", "Image 1", "reset", "download", "copy"]
        assert all(stop.startswith("Latent unit") for stop in stops[6:])
        page.locator("#grid button").first.focus()
        for key, at in (
            ("ArrowRight", 1), ("ArrowDown", 9), ("ArrowLeft", 8), ("ArrowUp", 0),
            ("ArrowUp", 0), ("ArrowLeft", 0), ("End", 63), ("ArrowDown", 63), ("Home", 0),
            ("ArrowDown", 8),
        ):  # fmt: skip
            page.keyboard.press(key)
            assert focused(page) == f"Image {at + 1}", key
            assert page.get_attribute(f"#grid button >> nth={at}", "aria-checked") == "true"
            assert page.locator("#grid [tabindex='0']").count() == 1
            assert source(page, "#preview") == source(page, f"#grid img >> nth={at}")
        page.keyboard.press("r")
        changed(page, "#grid img", third)
        assert focused(page) == "Image 9"
        before = source(page, "#preview")
        assert before == source(page, "#grid img >> nth=8")
        page.locator("#sliders input").first.press("End")
        changed(page, "#preview", before)
        page.focus("#seed")
        page.keyboard.type("r")  # a letter in a field is a letter
        assert page.input_value("#seed").endswith("r")
        assert window.errors == []


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
        assert source(page, "#preview") == made
        held.pop().continue_()
        changed(page, "#grid img", first)
        assert page.locator("#grid [aria-checked=true]").count() == 0
        page.locator("#sliders input").first.press("End")
        moved = changed(page, "#preview", made)
        page.click("#reset")
        assert changed(page, "#preview", moved) == made
        assert window.errors == []
