"""The report in a real browser: what people see, touch and type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.report import gather, write
from analysis.report.tables import DASH
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
        page.locator("#search .plot").first.scroll_into_view_if_needed()
        point = page.locator("#search .plot").first.locator(".point").first
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


def images_seen(page: Page) -> list[str]:
    return [
        str(image.get_attribute("alt"))
        for image in page.locator("#gallery thead img:visible").all()
    ]


@pytest.mark.parametrize("width", [1280, 400])
def test_a_reader_chooses_which_images_stand_side_by_side(
    browser: Browser, bare: Path, width: int
) -> None:
    with opened(browser, bare, viewport={"width": width, "height": 800}) as seen:
        page = seen.page
        names = page.locator("#gallery tbody th").all_inner_texts()
        assert [name.split("\n")[0] for name in names] == ["mse", "l1", "ssim"]
        first = images_seen(page)
        assert 2 < len(first) < 16
        assert page.locator("#gallery").evaluate(
            "t => t.scrollWidth <= t.parentElement.clientWidth"
        )
        page.locator(".chooser").get_by_role("button", name="next").press("Enter")
        assert images_seen(page)[0] == f"image {len(first) + 1}"
        assert page.inner_text(".chooser output").startswith(f"images {len(first) + 1} to ")
        page.locator(".thumbs button").nth(3).click()
        assert images_seen(page)[0] == "image 4"
        pressed = page.locator(".thumbs [aria-pressed=true]")
        assert pressed.count() == len(first)
        shown_by = page.locator("#gallery tbody tr").nth(1).locator("img:visible").first
        assert shown_by.get_attribute("alt") == "image 4 by l1"
        assert shown_by.evaluate("i => i.decode().then(() => i.naturalWidth)") == 8


def test_an_image_is_enlarged_and_left_again_with_the_keyboard(
    browser: Browser, bare: Path
) -> None:
    with opened(browser, bare) as seen:
        page = seen.page
        button = page.locator("#gallery thead button").nth(2)
        button.press("Enter")
        dialog = page.get_by_role("dialog")
        views = dialog.locator("img")
        alts = [view.get_attribute("alt") for view in views.all()]
        assert alts == ["image 3", "image 3 by mse", "image 3 by l1", "image 3 by ssim"]
        small = page.locator("#gallery thead img").nth(2).bounding_box()
        large = views.first.bounding_box()
        assert small is not None
        assert large is not None
        assert large["width"] > 2 * small["width"]
        page.keyboard.press("ArrowRight")
        assert views.first.get_attribute("alt") == "image 4"
        assert dialog.locator("h3").inner_text() == "image 4 of 16"
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        assert views.first.get_attribute("alt") == "image 16", "the first follows the last"
        page.keyboard.press("Escape")
        assert dialog.is_hidden()
        assert button.evaluate("button => button === document.activeElement")
        page.locator("#gallery td img").first.click()
        assert views.first.get_attribute("alt") == "image 1"


def test_without_scripts_all_pictures_and_all_columns_are_there(
    browser: Browser, mixed: Path
) -> None:
    with opened(browser, mixed, java_script_enabled=False) as seen:
        page = seen.page
        assert page.locator("#gallery img:visible").count() == 4 * 16
        assert (
            page.locator("#trial-table thead th:visible").count()
            == page.locator("#trial-table thead th").count()
        )
        metrics = page.locator("#search figure:visible").evaluate_all(
            "figures => figures.map(({ dataset }) => dataset.metric)"
        )
        assert set(metrics) == {"PSNR", ""}
        assert page.locator(":is(.choice, .unfold, .chooser):visible").count() == 0


def test_one_metric_at_a_time_is_shown_and_chosen_with_the_keyboard(
    browser: Browser, mixed: Path
) -> None:
    with opened(browser, mixed) as seen:
        page = seen.page
        titles = page.locator("#search figure:visible figcaption strong")
        assert titles.first.inner_text() == "PSNR by parameter."
        assert not any("SSIM" in text for text in titles.all_inner_texts())
        page.locator("#search").get_by_label("Metric").press("ArrowDown")
        assert titles.first.inner_text() == "SSIM by parameter."
        assert not any("PSNR" in text for text in titles.all_inner_texts())
        assert "Where trials were pruned." in titles.all_inner_texts(), "what is of no metric stays"
        page.locator("#search figure:visible .plot[data-drawn] svg").first.wait_for()


def test_columns_that_tell_nothing_new_are_unfolded_and_folded(
    browser: Browser, bare: Path
) -> None:
    with opened(browser, bare) as seen:
        page = seen.page
        headings = page.locator("#trial-table thead th")
        button = page.locator(".unfold button")
        assert button.get_attribute("aria-expanded") == "false"
        folded = headings.count() - page.locator("#trial-table thead th:visible").count()
        assert button.inner_text() == f"show {folded} more columns"
        button.press("Enter")
        assert page.locator("#trial-table thead th:visible").count() == headings.count()
        assert button.get_attribute("aria-expanded") == "true"
        button.click()
        assert page.locator("#trial-table .folded:visible").count() == 0


@pytest.mark.parametrize("width", [1280, 400])
def test_the_bar_of_a_figure_covers_nothing_and_sends_nothing(
    browser: Browser, mixed: Path, width: int
) -> None:
    with opened(browser, mixed, viewport={"width": width, "height": 800}) as seen:
        page = seen.page
        page.evaluate(DRAW_ALL)
        for place in page.locator("figure:visible .plot:has(.modebar)").all():
            place.scroll_into_view_if_needed()
            bar = place.locator(".modebar").first.bounding_box()
            drawing = place.locator(".main-svg").first.bounding_box()
            caption = place.locator("xpath=../figcaption").bounding_box()
            assert bar is not None
            assert drawing is not None
            assert caption is not None
            assert caption["y"] + caption["height"] <= bar["y"]
            assert bar["y"] + bar["height"] <= drawing["y"] + 1
        names = page.locator(".modebar-btn").evaluate_all("all => all.map((b) => b.ariaLabel)")
        assert set(names) <= {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


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
        assert seen.page.locator("img[src=x]").count() == 0
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
