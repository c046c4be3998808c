"""The page in a real browser: on windows of any size, by day and night, and for a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsers import visit
from tests.pages import LAST, PHONE, WIDE, changed, focused, source, strip
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

pytestmark = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(trained, tmp_path_factory.mktemp("looks")) as running:
        yield running


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
