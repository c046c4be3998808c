"""The report in a real browser: what people see, touch and type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.report import gather
from analysis.report.tables import DASH
from analysis.report.writing import write
from analysis.runs import Runs
from tests import reports
from tests.browsers import Visit, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

Opened = Callable[..., Any]
MIXED = ("completed", "completed", "completed", "pruned", "failed", "running")
ROWS = "#trial-table tbody tr"
DRAW_ALL = """async () => {
  for (const plot of document.querySelectorAll(".plot")) plot.scrollIntoView();
  await Promise.all([...document.querySelectorAll(".plot")].map((plot) => draw(plot)));
  scrollTo(0, 0);
}"""


@contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Visit]:
    """A page that did nothing which it must not do."""
    with visit(browser, **options) as seen:
        seen.page.goto(path.as_uri())
        yield seen
        assert seen.errors == []
        assert seen.requests == [path.as_uri()]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep with trials of every status."""
    folder = tmp_path_factory.mktemp("mixed") / "cats" / "sweep"
    return written(reports.sweep(folder, statuses=MIXED), folder)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without figures, which a browser without a graphics card draws slowly."""
    folder = tmp_path_factory.mktemp("bare") / "cats" / "sweep"
    return without_figures(reports.sweep(folder, statuses=MIXED), folder)


def without_figures(runs: Runs, folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "search_plots", lambda *_: [])
        return written(runs, folder)


def written(runs: Runs, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write(runs, folder / "report.html", sources=[str(folder)])
    return folder / "report.html"


def shown(page: Page, column: int = 0) -> list[str]:
    """The texts of a column, of the rows that are seen."""
    cells = page.locator(f"{ROWS}:visible > :nth-child({column + 1})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def column_of(page: Page, title: str) -> int:
    titles = page.locator("#trial-table thead button").all_inner_texts()
    return next(i for i, text in enumerate(titles) if text.split("\n")[0].split()[0] == title)


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1280, "height": 800}},
        {"viewport": {"width": 360, "height": 740}},
        {"color_scheme": "dark"},
        {"reduced_motion": "reduce", "forced_colors": "active"},
    ],
    ids=["desktop", "phone", "dark", "forced colours"],
)
def test_the_page_needs_no_network_and_has_no_error(
    browser: Browser, mixed: Path, options: dict[str, Any]
) -> None:
    with opened(browser, mixed, **options) as seen:
        seen.page.evaluate(DRAW_ALL)
        width = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, "the page scrolls sideways"


def test_a_heading_sorts_and_sorts_back_with_the_mouse_and_the_keyboard(
    browser: Browser, bare: Path
) -> None:
    with opened(browser, bare) as seen:
        page = seen.page
        heading = page.locator("#trial-table thead th").nth(column_of(page, "PSNR"))
        button = heading.locator("button")
        for press, state in ((button.click, "ascending"), (None, "descending")):
            if press is None:
                button.focus()
                page.keyboard.press("Enter")
            else:
                press()
            assert heading.get_attribute("aria-sort") == state
            values = shown(page, column_of(page, "PSNR"))
            present = [float(v) for v in values if v != DASH]
            assert len(present) == 16
            assert present == sorted(present, reverse=state == "descending")
            assert values[16:] == [DASH] * 8, "what has no value goes last"
        page.locator("#trial-table thead button").first.click()
        assert heading.get_attribute("aria-sort") is None
        assert shown(page)[:3] == ["cats/0", "cats/1", "cats/2"]
        assert shown(page)[9:12] == ["cats/9", "cats/10", "cats/11"]


def test_trials_are_found_by_words_and_by_status(browser: Browser, bare: Path) -> None:
    with opened(browser, bare) as seen:
        page = seen.page
        assert page.inner_text("#count") == "24 of 24"
        page.get_by_label("Status").select_option("failed")
        assert page.inner_text("#count") == "4 of 24"
        assert all(
            "the loss is NaN" in t for t in page.locator(f"{ROWS}:visible").all_inner_texts()
        )
        page.get_by_label("Status").select_option("")
        page.get_by_label("Search").fill("SSIM 64")
        assert set(shown(page, column_of(page, "loss.name"))) == {"ssim"}
        assert page.inner_text("#count") == "4 of 24"
        page.get_by_label("Search").press("Enter")
        assert page.url == bare.as_uri(), "the form goes nowhere"
        page.get_by_label("Search").fill("no such trial")
        assert shown(page) == []


def test_hovering_a_point_shows_its_trial_and_a_click_goes_to_its_row(
    browser: Browser, mixed: Path
) -> None:
    with opened(browser, mixed) as seen:
        page = seen.page
        page.locator("#plot-0").scroll_into_view_if_needed()
        point = page.locator("#plot-0 .point").first
        point.hover(force=True)
        card = page.locator("#card")
        card.wait_for(state="visible")
        assert card.locator("img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        trial = card.inner_text().split(":")[0]
        assert trial.startswith("cats/")
        point.click(force=True)
        assert page.locator("tr.chosen").get_attribute("data-trial") == trial
        assert page.evaluate("document.activeElement.textContent") == trial


def test_a_row_shows_its_picture_to_the_keyboard_until_escape(browser: Browser, bare: Path) -> None:
    with opened(browser, bare) as seen:
        page = seen.page
        page.locator(f"{ROWS} a").first.focus()
        assert page.locator("#card").is_visible()
        page.keyboard.press("Escape")
        assert page.locator("#card").is_hidden()


def test_a_trial_links_to_its_record_and_its_run(browser: Browser, bare: Path) -> None:
    with opened(browser, bare) as seen:
        row = seen.page.locator('tr[data-trial="cats/4"]')
        record, run = row.locator("a").all()
        assert record.evaluate("link => link.href") == (bare.parent / "4").as_uri() + "/"
        assert run.get_attribute("href") == "https://wandb.example/run/4"


def test_the_page_is_dark_where_the_system_is_and_can_be_turned(
    browser: Browser, bare: Path
) -> None:
    lightness = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] * 1"
    with opened(browser, bare, color_scheme="dark") as seen:
        assert seen.page.evaluate(lightness) < 60
        seen.page.get_by_role("button", name="light").click()
        assert seen.page.evaluate(lightness) > 200
        seen.page.get_by_role("button", name="dark").click()
        assert seen.page.evaluate(lightness) < 60


@pytest.mark.parametrize(
    "name", [reports.HOSTILE, "</script><script>alert(1)</script>", "кот 猫 é"]
)
def test_names_are_shown_as_they_are(browser: Browser, tmp_path: Path, name: str) -> None:
    runs = reports.sweep(tmp_path, losses=(name, "mse"), count=8, name=name, reason=f"why {name}")
    with opened(browser, without_figures(runs, tmp_path)) as seen:
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        assert shown(seen.page, column_of(seen.page, "loss.name")).count(name) == 4
        assert f"{name}/0" in shown(seen.page)
        assert f"why {name}" in seen.page.inner_text("#trials")
        assert name in seen.page.inner_text("header")
        assert seen.page.locator("main img").count() == 0
        assert dialogs == []


def test_the_policy_of_the_page_runs_no_other_script_and_loads_nothing(
    browser: Browser, mixed: Path
) -> None:
    smuggled = """async () => {
      const script = document.createElement("script");
      script.textContent = "window.smuggled = true";
      document.body.append(script);
      const image = new Image();
      image.src = "http://127.0.0.1:9/pixel.png";
      const worked = (promise) => promise.then(() => true, () => false);
      const loaded = await worked(fetch("http://127.0.0.1:9/"));
      return [window.smuggled ?? false, loaded, await worked(image.decode())];
    }"""
    with visit(browser) as seen:
        seen.page.goto(mixed.as_uri())
        assert seen.page.evaluate(smuggled) == [False, False, False]
        refused = [error for error in seen.errors if "Content Security Policy" in error]
        for what in ("inline script", "pixel.png", "127.0.0.1:9/'"):
            assert any(what in error for error in refused), (what, refused)
