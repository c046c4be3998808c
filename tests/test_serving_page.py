"""The page in a real browser: drawing images, choosing one, changing it, and passing it on."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsers import visit
from tests.pages import LAST, PHONE, WIDE, changed, silence, source, strip
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(trained, tmp_path_factory.mktemp("page")) as running:
        yield running


def focused(page: Page) -> str:
    """What has the focus: its id, or its picture's description."""
    found: str = page.evaluate(
        "document.activeElement.id || document.activeElement.querySelector('img')?.alt"
        " || document.activeElement.ariaLabel || document.activeElement.tagName"
    )
    return found


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
    "query",
    ["seed=-1", "seed=7&temperature=NaN&image=0", "seed=7&image=999999&z99=1&z0=1e9&z1=&z2=x"],
)
def test_a_link_with_nonsense_in_it_still_opens(
    browser: Browser, service: Service, query: str
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?{query}")
        page.wait_for_selector(LAST)
        assert source(page, "#preview") == source(page, "#grid img")
        assert page.input_value("#temperature") == "1"
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


def test_a_screen_reader_hears_what_everything_is(browser: Browser, service: Service) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        grid = page.get_by_role("radiogroup", name="New images; choose one to change it")
        assert grid.get_by_role("radio").count() == 64
        assert grid.get_by_role("radio", name="Image 1", exact=True, checked=True).count() == 1
        sliders = page.get_by_role("region", name="Change one").get_by_role("slider")
        assert sliders.count() == 4
        text = page.locator("#sliders output").first.inner_text()
        assert sliders.first.get_attribute("aria-valuetext") == text
        assert page.locator("#drawn").inner_text() == "64 new images of seed 7"
        nameless = page.evaluate(
            "[...document.querySelectorAll('input, button, a')].filter(e => !(e.labels?.length"
            " || e.ariaLabel || e.innerText || e.querySelector('img[alt]') || e.hidden))"
            ".map(e => e.outerHTML)"
        )
        assert nameless == []
        assert page.locator("img:not([alt])").count() == 0
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))"
        )
        assert levels == [1, 2, 2, 2, 2]
        live = page.locator("[role=status]").evaluate_all("all => all.map(e => e.id)")
        assert {"status", "draw-told", "change-told", "photo-told", "between-told"} <= set(live)


def box(page: Page, selector: str) -> FloatRect:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return found


def test_on_a_wide_window_choosing_and_seeing_are_on_one_screen(
    browser: Browser, service: Service
) -> None:
    with visit(browser, **WIDE) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        strip(page)
        grid, editor = box(page, "#grid"), box(page, "#editor")
        assert grid["x"] + grid["width"] <= editor["x"]
        for part in (grid, box(page, "#preview"), box(page, "#sliders")):
            assert part["y"] >= 0
            assert part["y"] + part["height"] <= 800
        page.locator("#second").scroll_into_view_if_needed()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert box(page, "#preview")["y"] >= 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


TARGETS = """() => [...document.querySelectorAll("button, input, a")].map((e) => {
  const { width, height } = e.getBoundingClientRect();
  return [e.id || e.ariaLabel || e.innerText, width, height];
}).filter(([, width]) => width)"""


@pytest.mark.parametrize("window_options", [WIDE, PHONE], ids=["wide", "phone"])
def test_what_is_touched_is_as_large_as_a_finger(
    browser: Browser, service: Service, trained: Path, window_options: dict[str, Any]
) -> None:
    with visit(browser, **window_options) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector("#grid img >> nth=15")
        for field in ("#first", "#second"):
            page.set_input_files(field, str(trained / "samples.png"))
        page.wait_for_selector("#frame", state="visible")
        small = [one for one in page.evaluate(TARGETS) if min(one[1:]) < 43.9]
        assert small == []


def test_a_phone_shows_sixteen_images_and_turned_to_the_side_all(
    browser: Browser, service: Service
) -> None:
    with visit(browser, **PHONE) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector("#grid img >> nth=15")
        assert page.locator("#grid img").count() == 16
        cells = [box(page, f"#grid button >> nth={i}") for i in range(5)]
        assert cells[3]["y"] == cells[0]["y"] < cells[4]["y"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#grid button").nth(2).focus()
        page.keyboard.press("ArrowDown")
        assert focused(page) == "Image 7"
        before = source(page, "#preview")
        page.locator("#sliders input").first.fill("3")
        kept = changed(page, "#preview", before)
        page.set_viewport_size({"width": 844, "height": 390})
        page.wait_for_selector(LAST)
        assert source(page, "#preview") == kept
        assert page.get_attribute("#grid button >> nth=6", "aria-checked") == "true"
        assert window.errors == []


CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  document.querySelector("#status").classList.add("bad");
  return ["h1", "#about", "#status", "#reset", "footer a", "#refresh"].map((name) => {
    const style = getComputedStyle(document.querySelector(name));
    const ground = style.backgroundColor === "rgba(0, 0, 0, 0)" ? paper : style.backgroundColor;
    const [a, b] = [light(style.color), light(ground)].sort((x, y) => y - x);
    return [name, (a + 0.05) / (b + 0.05)];
  });
}"""


@pytest.mark.parametrize(
    ("scheme", "ground"), [("light", "rgb(251, 250, 248)"), ("dark", "rgb(21, 25, 27)")]
)
def test_day_and_night_are_both_easy_to_read(
    browser: Browser, service: Service, scheme: str, ground: str
) -> None:
    with visit(browser, color_scheme=scheme) as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        assert [one for one in page.evaluate(CONTRASTS) if one[1] < 4.5] == []


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
