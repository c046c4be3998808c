"""The README stays short, and whatever the pages point at is there."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from experiments.config import schema
from sweeps import bounds

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    README,
    *DOCS,
    ROOT / "benchmarks" / "README.md",
    ROOT / "analysis" / "study" / "README.md",
]
MOST_WORDS = 1300  # as `wc -w` counts
MOST_BYTES = 250_000  # of a picture
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_PAGE_NAME = re.compile(r"\b(?:docs/[\w-]+\.md|README\.md)\b")

SECTIONS = {
    "data": schema.DataConfig,
    "kl": schema.KLConfig,
    "optimizer": schema.OptimizerConfig,
    "trainer": schema.TrainerConfig,
    "evaluation": schema.EvaluationConfig,
    "logger": schema.LoggerConfig,
    "sweep": schema.SweepConfig,
}


def prose(page: Path) -> str:
    """Without its commands."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return _LINK.findall(_CODE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub names them."""
    found: Counter[str] = Counter()
    names = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def points_at_something(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    return path.exists() and (not anchor or anchor in anchors(path))


def local(page: Path) -> Iterator[str]:
    return (link for link in links(page) if not link.startswith(("https://", "http://")))


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in local(page) if not points_at_something(page, link)] == []


def test_a_link_to_nothing_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One scale\n[a](page.md#one-scale) [b](page.md#two) [c](no.md) [d](#one-scale)\n"
    )
    assert [link for link in local(page) if not points_at_something(page, link)] == [
        "page.md#two", "no.md",
    ]  # fmt: skip


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in local(README)}
    assert [page.name for page in PAGES if page != README and page.resolve() not in linked] == []


def test_every_page_begins_by_saying_what_it_is_good_for() -> None:
    for page in DOCS:
        title, _, first = page.read_text(encoding="utf-8").partition("\n\n")
        assert title.startswith("# "), page.name
        assert first[0].isalpha(), f"{page.name} must begin with a sentence"


def test_pictures_are_small_and_described() -> None:
    for page in PAGES:
        for text, link in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(page)):
            assert len(text.split()) > 1, f"{link} in {page.name} must be described"
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.stat().st_size < MOST_BYTES, picture.name
        Image.open(picture).verify()


def test_pages_that_files_name_exist() -> None:
    command = ["git", "grep", "-I", "--name-only", "-E", r"docs/[a-z-]+\.md", "--", ":!*.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode > 1 or not done.stdout:
        pytest.skip("needs Git's working tree")
    for file in done.stdout.split():
        for name in _PAGE_NAME.findall((ROOT / file).read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{file} names {name}"


def test_files_and_folders_that_pages_name_exist() -> None:
    ours = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    made = {"outputs", "data", "wandb"}  # by a user or a command
    for page in (README, *DOCS):
        for code in _CODE.findall(prose(page)):
            name = code.strip("/")
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", name) and name.split("/")[0] in ours - made:
                assert (ROOT / name).exists() or (page.parent / name).exists(), (
                    f"{page.name}: {code}"
                )


def test_yaml_that_pages_show_can_be_read() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        lines = [code for code in _CODE.findall(prose(page)) if re.match(r"[a-z_]+: \S", code)]
        for shown in (*blocks, *lines):
            assert isinstance(yaml.safe_load(shown), dict), f"{page.name}: {shown}"


def test_settings_that_pages_name_exist() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    known = {f"{section}.{key}" for section, keys in params.items() for key in keys}
    for section, settings in SECTIONS.items():
        known |= {f"{section}.{field.name}" for field in dataclasses.fields(settings)}
    named = re.compile(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?:=[^`]*)?`")
    for page in (README, *DOCS):
        assert set(named.findall(prose(page))) - known == set(), page.name


def test_the_bounds_that_the_protocols_page_gives_are_those_of_the_code() -> None:
    shown = re.findall(
        r"^\| `([A-Z_]+)` \| (\d+) \|", prose(ROOT / "docs" / "sweeps.md"), re.MULTILINE
    )
    assert len(shown) >= 7
    assert {name: float(seconds) for name, seconds in shown} == {
        name: getattr(bounds, name) for name, _ in shown
    }
