"""The page in a real browser: a person's photos, and the way between two of them."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.browsers import Visit, visit
from tests.pages import LAST, PHONE, WIDE, changed, silence, source, told
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("photos")
    with run_service(trained, directory, "--max-mebibytes", "2") as running:
        yield running


@pytest.fixture
def window(browser: Browser, service: Service) -> Iterator[Visit]:
    with visit(browser, **WIDE) as opened:
        opened.page.goto(f"{service.url}/?seed=7")
        opened.page.wait_for_selector(LAST)
        yield opened


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A black photo and a white one."""
    folder = tmp_path_factory.mktemp("pair")
    for colour in ("black", "white"):
        Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
    return str(folder / "black.png"), str(folder / "white.png")


def give(page: Page, pair: tuple[str, str]) -> None:
    page.set_input_files("#first", pair[0])
    page.set_input_files("#second", pair[1])


def pixels(url: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(Image.open(io.BytesIO(b64decode(url.split(",")[1])))).astype(float)


def test_a_person_on_a_phone_sees_their_photo_and_the_way_to_another(
    browser: Browser, service: Service, pair: tuple[str, str]
) -> None:
    with visit(browser, **PHONE, color_scheme="dark") as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector("#grid img >> nth=15")
        page.set_input_files("#photo", pair[0])
        page.wait_for_selector("#made", state="visible")
        row = page.locator("#metrics tr", has_text="MS-SSIM").inner_text()
        assert float(row.split()[1]) <= 1
        assert " dB" in page.locator("#metrics tr", has_text="PSNR").inner_text()
        assert source(page, "#seen") != source(page, "#made") == source(page, "#preview")
        give(page, pair)
        page.wait_for_selector("#frame", state="visible")
        page.press("#step", "End")
        last = changed(page, "#frame", source(page, "#made"))
        page.press("#step", "Home")
        assert changed(page, "#frame", last) == source(page, "#made")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        silence(page)
        assert window.errors == []


def test_the_way_plays_until_it_is_paused_or_taken_by_hand(
    window: Visit, pair: tuple[str, str]
) -> None:
    page = window.page
    page.set_input_files("#first", pair[0])
    told(page, "between-told", "Now the other photo.")
    page.set_input_files("#second", pair[1])
    page.wait_for_function("() => Number(document.querySelector('#step').value) > 2")
    page.wait_for_function("() => Number(document.querySelector('#step').value) < 2")  # and back
    page.get_by_role("button", name="Pause").click()
    page.clock.install()
    stopped = source(page, "#frame")
    page.clock.run_for(10_000)
    assert source(page, "#frame") == stopped
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(500)
    assert source(page, "#frame") != stopped
    page.locator("#step").fill("16")
    assert page.inner_text("#play") == "Play"
    page.clock.run_for(10_000)
    assert page.input_value("#step") == "16"
    assert page.get_attribute("#step", "aria-valuetext") == "17 of 17"
    assert window.errors == []


def test_nothing_moves_by_itself_for_whoever_wants_it_still(
    browser: Browser, service: Service, pair: tuple[str, str]
) -> None:
    with visit(browser, reduced_motion="reduce") as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        give(page, pair)
        page.wait_for_selector("#frame", state="visible")
        assert page.inner_text("#play") == "Play"
        assert page.input_value("#step") == "0"
        page.click("#play")
        page.wait_for_function("() => document.querySelector('#step').value !== '0'")
        assert window.errors == []


def test_the_way_is_downloaded_as_an_animation(window: Visit, pair: tuple[str, str]) -> None:
    page = window.page
    give(page, pair)
    page.wait_for_selector("#frame", state="visible")
    with page.expect_download() as download:
        page.click("#keep")
    with Image.open(download.value.path()) as animation:
        assert animation.format == "WEBP"
        assert getattr(animation, "n_frames", 1) == 32  # 17, and back
    silence(page)
    assert window.errors == []


def drop(page: Page, selector: str, name: str, content: bytes) -> None:
    """Drop a file there, as the system's file manager does."""
    transfer = page.evaluate_handle(
        "([name, content]) => { const dropped = new DataTransfer();"
        " dropped.items.add(new File([new Uint8Array(content)], name)); return dropped; }",
        [name, list(content)],
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event(selector, kind, {"dataTransfer": transfer})


def test_a_photo_can_be_dropped(window: Visit, pair: tuple[str, str]) -> None:
    page = window.page
    black, white = (Path(path).read_bytes() for path in pair)
    drop(page, "#grid", "black.png", black)  # anywhere
    page.wait_for_selector("#made", state="visible")
    made = source(page, "#made")
    assert page.evaluate("document.querySelector('#photo').files[0].name") == "black.png"
    drop(page, "label:has(#second)", "black.png", black)
    drop(page, "label:has(#first)", "white.png", white)
    page.wait_for_selector("#frame", state="visible")
    page.locator("#step").fill("16")
    assert source(page, "#frame") == made
    assert page.locator(".over").count() == 0
    # The browser would have left the page for a photo that nobody catches.
    assert page.evaluate(
        "() => { const t = new DataTransfer(); t.items.add(new File(['x'], 'x'));"
        " const e = new DragEvent('drop', { dataTransfer: t, bubbles: true, cancelable: true });"
        " document.querySelector('footer').dispatchEvent(e); return e.defaultPrevented; }"
    )
    told(page, "photo-told", "not a JPEG")


def turned(path: Path, quality: int) -> Path:
    """A large photo whose upper left is bright once its EXIF orientation is followed."""
    noise = np.random.default_rng(0).integers(0, 60, (2400, 3600, 3), dtype=np.uint8)
    noise[1200:, :1800] += 180  # the upper left of what is turned to the right by a quarter
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=quality)
    return path


def test_a_large_photo_is_shrunk_before_it_is_sent_and_stays_upright(
    window: Visit, service: Service, tmp_path: Path
) -> None:
    page, photo = window.page, turned(tmp_path / "turned.jpg", 90)
    assert photo.stat().st_size > 3 * 2**20  # more than the service takes
    sent: list[int] = []

    def weigh(route: Route) -> None:
        sent.append(len(route.request.post_data_buffer or b""))
        route.continue_()

    page.route("**/v1/reconstruct*", weigh)
    page.set_input_files("#photo", str(photo))
    page.wait_for_selector("#made", state="visible")
    assert sent[0] < 2**20
    with service.client() as client:
        small = turned(tmp_path / "whole.jpg", 5)
        files = {"photos": small.read_bytes()}
        whole = client.post("/v1/reconstruct?format=json", files=files).json()["photos"][0]
    assert small.stat().st_size < 2 * 2**20
    seen = pixels(source(page, "#seen"))
    assert seen[:16, :16].mean() > seen[16:, 16:].mean() + 100
    assert np.abs(seen - pixels(f",{whole}")).mean() < 5
    assert window.errors == []


def test_transparent_parts_of_a_large_photo_are_white_as_those_of_a_small_one(
    window: Visit, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (600, 600, 4), dtype=np.uint8)
    noise[:, :, 3] = 0
    Image.fromarray(noise).save(tmp_path / "clear.png")
    assert (tmp_path / "clear.png").stat().st_size > 500_000
    window.page.set_input_files("#photo", str(tmp_path / "clear.png"))
    window.page.wait_for_selector("#made", state="visible")
    assert pixels(source(window.page, "#seen")).min() > 250


def test_a_photo_that_cannot_be_shrunk_nor_sent_says_so_beside_it(
    window: Visit, tmp_path: Path
) -> None:
    page = window.page
    (tmp_path / "large.heic").write_bytes(b"\0" * 3 * 2**20)
    page.set_input_files("#photo", str(tmp_path / "large.heic"))
    told(page, "photo-told", "The photo has 3.0 MiB, and less than 2.0 MiB is allowed.")
    # Such as one that was moved or deleted meanwhile.
    page.evaluate(
        "() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException()); }"
    )
    for _ in range(2):
        (tmp_path / "moved.png").touch()
        page.set_input_files("#photo", str(tmp_path / "moved.png"))
        told(page, "photo-told", "The photo cannot be read; choose it again.")
        page.wait_for_function("() => !document.querySelector('#photo').value")
    assert page.locator("#photo-told button").count() == 0
    silence(page, "photo-told")
    assert window.errors == []


def test_what_cannot_be_used_is_told_beside_the_photo(window: Visit, tmp_path: Path) -> None:
    page, text = window.page, tmp_path / "photo.png"
    text.write_text("<script>alert(1)</script>")
    page.set_input_files("#photo", str(text))
    told(page, "photo-told", "A photo cannot be used: not a JPEG")
    assert page.is_hidden("#reconstruction")
    silence(page, "photo-told")
    # What ends well elsewhere leaves it to be read.
    before = source(page, "#preview")
    page.locator("#sliders input").first.fill("3")
    changed(page, "#preview", before)
    told(page, "photo-told", "A photo cannot be used")
    give(page, (str(text), str(text)))
    told(page, "between-told", "A photo cannot be used")
    assert page.is_hidden("#path")
    # The browser itself reports the refusals, and nothing else is wrong.
    assert [error for error in window.errors if "415" not in error] == []


def test_measures_that_are_not_finite_are_no_numbers(window: Visit, pair: tuple[str, str]) -> None:
    def broken(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["metrics"][0] |= {"psnr": None, "odd": "text"}
        route.fulfill(response=answer, json=found)

    page = window.page
    page.route("**/v1/reconstruct*", broken)
    page.set_input_files("#photo", pair[0])
    page.wait_for_selector("#made", state="visible")
    assert page.locator("#metrics tr", has_text="PSNR").inner_text().split("\t")[1] == "not finite"
    assert page.locator("#metrics tr", has_text="SSIM").count() == 2
    assert source(page, "#preview") == source(page, "#made")
    silence(page)
    assert window.errors == []
