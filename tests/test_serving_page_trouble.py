"""The page in a real browser: a service that refuses, fails, ends, asks for a token or is odd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsers import visit
from tests.pages import LAST, changed, checkpoint, refused, silence, source, strip, told
from tests.services import Service, run_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.trains]

TOKEN = "open-sesame"


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(trained, tmp_path_factory.mktemp("trouble")) as running:
        yield running


def busy(route: Route) -> None:
    """A queue that is full, as the service says it."""
    detail = "too many requests are waiting; try again in 3 s"
    refused(route, 429, detail=detail, headers={"Retry-After": "3"})


def proxy(route: Route) -> None:
    """What stands before a service and has words of its own."""
    route.fulfill(status=502, body="<h1>Bad Gateway</h1>", content_type="text/html")


def limited(route: Route) -> None:
    route.fulfill(status=429, body="slow down", headers={"Retry-After": "7"})


def gone(route: Route) -> None:
    route.abort("connectionrefused")


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (busy, "Too many requests are waiting; try again in 3 s."),
        (limited, "The server answers 429; try again in 7 s."),
        (proxy, "The server answers 502."),
        (gone, "The server does not answer."),
    ],
)
def test_trouble_is_told_where_it_arose_and_a_click_tries_again(
    browser: Browser, service: Service, trained: Path, trouble: Any, text: str
) -> None:
    with visit(browser) as window:
        page = window.page
        page.route("**/v1/*", trouble)
        page.goto(f"{service.url}/?seed=7")
        told(page, "status", text)
        page.unroute("**/v1/*")
        page.click("#status button")
        page.wait_for_selector(LAST)
        silence(page)

        photo = str(trained / "samples.png")
        first, preview = source(page, "#grid img"), source(page, "#preview")
        strip(page)
        page.route("**/v1/*", trouble)
        for place, act in (
            ("draw-told", lambda: page.click("#refresh")),
            ("change-told", lambda: page.locator("#sliders input").first.fill("3")),
            ("photo-told", lambda: page.set_input_files("#photo", photo)),
            ("between-told", lambda: page.set_input_files("#first", photo)),
            ("between-told", lambda: page.set_input_files("#second", photo)),
        ):
            act()
            told(page, place, text if place != "between-told" else "")
        told(page, "between-told", text)
        page.unroute("**/v1/*")
        page.locator("#draw-told button").press("Enter")
        changed(page, "#grid img", first)
        assert page.evaluate("document.activeElement.id") == "draw-told"  # not lost
        page.click("#photo-told button")
        page.wait_for_selector("#made", state="visible")
        page.click("#between-told button")
        page.wait_for_selector("#frame", state="visible")
        assert changed(page, "#preview", preview) == source(page, "#made")
        silence(page, "change-told")
        assert [error for error in window.errors if "Failed to load resource" not in error] == []


def test_a_service_that_is_silent_is_told_to_be_waited_for(
    browser: Browser, service: Service, trained: Path
) -> None:
    held: list[Route] = []
    with visit(browser) as window:
        page = window.page
        page.route("**/v1/*", lambda route: held.append(route))
        page.goto(f"{service.url}/?seed=7")
        waiting = "Waiting for the server …"
        told(page, "status", waiting)
        page.unroute("**/v1/*")  # which lets go of what was held
        page.wait_for_selector(LAST)
        silence(page)

        strip(page)
        first = source(page, "#grid img")
        page.route("**/v1/*", lambda route: held.append(route))
        page.click("#refresh")
        told(page, "draw-told", waiting)
        page.locator("#sliders input").first.fill("3")
        told(page, "change-told", waiting)
        page.click("#reset")  # which gives the request up
        page.locator("#change-told:empty").wait_for(state="attached")
        page.set_input_files("#photo", str(trained / "samples.png"))
        told(page, "photo-told", "Looking at the photo …")
        page.unroute("**/v1/*")
        page.wait_for_selector("#made", state="visible")
        changed(page, "#grid img", first)
        silence(page)
        assert window.errors == []


def sign_in(page: Page) -> None:
    """Give the token, and wait for the images."""
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector(LAST)


def test_a_slider_whose_picture_did_not_come_asks_again_by_a_click(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        strip(page)
        before = source(page, "#preview")
        page.context.set_offline(True)
        page.locator("#sliders input").first.fill("3")
        told(page, "change-told", "The server does not answer.")
        page.context.set_offline(False)
        page.click("#change-told button")
        changed(page, "#preview", before)
        silence(page)


@pytest.fixture(scope="module")
def guarded(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("guarded")
    with run_service(trained, directory, VAESWEEP_TOKEN=TOKEN) as running:
        yield running


def test_a_service_with_a_token_asks_for_it_and_says_what_is_wrong_with_one(
    browser: Browser, guarded: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{guarded.url}/?seed=7")
        told(page, "access-told", "This service asks for a token.")
        assert page.is_hidden("main")
        assert page.evaluate("document.activeElement.id") == "token"
        for text, answer in (
            ("", "A token is needed."),
            ("20€", "«€» cannot be in it."),
            ("schlüssel", "«ü» cannot be in it."),
            ("open sesame", "A token has no spaces."),
            ("wrong", "That is not the token of this service."),
            (f"  {TOKEN}x ", "That is not the token of this service."),
        ):
            page.fill("#token", text)
            page.press("#token", "Enter")
            told(page, "access-told", answer)
            assert page.get_attribute("#token", "aria-invalid") == "true"
        page.fill("#token", f" {TOKEN} ")
        page.press("#token", "Enter")
        page.wait_for_selector(LAST)
        assert page.is_hidden("#access")
        page.reload()
        page.wait_for_selector(LAST)
        assert page.is_hidden("#access")
        assert [error for error in window.errors if "401" not in error] == []


def test_a_token_that_was_kept_and_cannot_be_sent_does_not_lock_the_page(
    browser: Browser, guarded: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.add_init_script(
            "sessionStorage.getItem('token') ?? sessionStorage.setItem('token', '€')"
        )
        page.goto(guarded.url)
        sign_in(page)
        assert [error for error in window.errors if "401" not in error] == []


def test_a_browser_that_keeps_nothing_can_still_open_a_service_with_a_token(
    browser: Browser, guarded: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.add_init_script(
            "Object.defineProperty(window, 'sessionStorage',"
            " { get() { throw new DOMException('forbidden', 'SecurityError'); } })"
        )
        page.goto(guarded.url)
        sign_in(page)
        assert [error for error in window.errors if "401" not in error] == []


def test_a_token_that_is_changed_meanwhile_is_asked_for_again(
    browser: Browser, service: Service
) -> None:
    with visit(browser) as window:
        page = window.page
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        page.locator("#grid button").nth(5).click()
        chosen = source(page, "#preview")
        page.wait_for_function("() => location.search.includes('image=6')")
        page.route("**/v1/*", lambda route: refused(route, 401))
        page.click("#refresh")
        told(page, "access-told", "This service asks for a token.")
        page.unroute("**/v1/*")
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        page.wait_for_selector("#access", state="hidden")
        page.wait_for_function(
            "chosen => document.querySelector('#preview').src === chosen", arg=chosen
        )
        assert page.get_attribute("#grid button >> nth=5", "aria-checked") == "true"


def test_a_model_that_is_replaced_meanwhile_is_told(browser: Browser, service: Service) -> None:
    def renewed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "X-Model": "0123456789ab"})

    with visit(browser) as window:
        page = window.page
        page.goto(service.url)
        page.wait_for_selector(LAST)
        page.route("**/v1/generate*", renewed)
        page.click("#refresh")
        told(page, "status", "The service has another model now: reload the page.")


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


@pytest.mark.parametrize(
    ("told_of_it", "about"),
    [
        ({"objective": {"names": ["psnr"], "values": [None]}}, "with mse, PSNR not finite"),
        ({"objective": {"names": ["psnr"], "values": None}}, "with mse, PSNR not finite"),
        ({"objective": {"names": None}, "loss": {}, "data": {}}, "32, 4 latent units"),
        ({"objective": None, "loss": None, "data": None}, "32, 4 latent units"),
        ({"objective": None, "informative_units": []}, "with mse"),
        ({"objective": None, "informative_units": None, "measures": None}, "with mse"),
        ({"objective": None, "informative_units": [{"unit": 3, "kl": None}]}, "with mse"),
    ],
)
def test_a_model_of_which_little_is_known_is_shown(
    browser: Browser, service: Service, told_of_it: dict[str, Any], about: str
) -> None:
    def other(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | told_of_it)

    with visit(browser) as window:
        page = window.page
        page.route("**/v1/model", other)
        page.goto(f"{service.url}/?seed=7")
        page.wait_for_selector(LAST)
        assert page.inner_text("#about").endswith(about)
        units = told_of_it.get("informative_units", range(4)) or []
        assert page.locator(".unit").count() == len(units)
        assert page.is_visible("#reset") == bool(units)
        assert source(page, "#preview") == source(page, "#grid img")
        silence(page)
        assert window.errors == []


@pytest.mark.parametrize(
    ("shape", "latent_dim", "options", "images"),
    [
        ((1, 32, 32), 1, [], 64),
        ((3, 64, 64), 512, [], 64),
        ((3, 32, 32), 3, ["--max-images", "5"], 5),  # of which a strip alone has more
    ],
)
def test_models_of_any_shape_and_services_of_any_limit_are_shown_until_they_end(
    browser: Browser,
    tmp_path: Path,
    shape: tuple[int, int, int],
    latent_dim: int,
    options: list[str],
    images: int,
) -> None:
    model = checkpoint(tmp_path / "model.ckpt", shape=shape, latent_dim=latent_dim)
    with run_service(model, tmp_path, *options) as odd, visit(browser) as window:
        page = window.page
        page.goto(f"{odd.url}/?seed=7")
        page.wait_for_selector(f"#grid img >> nth={images - 1}")
        assert page.locator("#grid img").count() == images
        sliders = min(8, latent_dim)
        assert page.locator(".unit").count() == sliders
        assert all(strip(page, number) for number in range(sliders))
        slider = page.locator("#sliders input").last
        slider.fill("-3")
        page.wait_for_function(
            "([s, b]) => document.querySelector(s).src === b",
            arg=["#preview", strip(page, sliders - 1)[0]],
        )
        width = page.evaluate("document.querySelector('#preview').naturalWidth")
        assert width == shape[2]
        silence(page)
        assert window.errors == []
        odd.process.terminate()
        odd.end()
        page.click("#refresh")
        told(page, "draw-told", "The server does not answer.")
