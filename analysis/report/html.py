"""The report as one HTML file that needs nothing else, now or in ten years."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from analysis.report.content import Content, Plot
from analysis.report.folding import folded
from analysis.report.pictures import SideBySide, side_by_side, thumbnails
from experiments.symptoms import SHORT

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_MOST_BYTES = 6_000_000
_LEAST_OF_REST = 1_000_000
"""Bytes that figures and thumbnails may always take, however long the table of trials is."""


def render(content: Content) -> str:
    """The page.

    Names and reasons may hold anything: the template escapes all text, JSON is written so that
    it cannot end its element, and the page's policy runs no script but those that are in it.
    What does not fit is left out: small pictures of single trials first, then figures; the
    pictures of the levels side by side never are.
    """
    directories = dict(content.pictured)
    levels = [(name, trial, directories.get(trial)) for name, trial in content.levels]
    plots = [*content.effects, *(plot for one in content.chapters for plot in one.plots)]
    page = partial(_page, content, side_by_side(levels), with_plots=bool(plots))
    left = max(_LEAST_OF_REST, _MOST_BYTES - len(page({}, {}).encode()))
    drawn = _fitting(plots, left)
    left -= sum(len(one.json) for one in drawn.values())
    return page(drawn, thumbnails(content.pictured, left))


@dataclass(frozen=True)
class _Drawn:
    id: str
    json: str
    height: int


def _page(
    content: Content,
    pictures: SideBySide,
    drawn: Mapping[str, _Drawn],
    small: Mapping[str, str],
    *,
    with_plots: bool,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    script = _read("report.js")
    plotly = _plotly() if with_plots else ""
    return environment.get_template("page.html").render(
        content=content,
        sections=_sections(content),
        side_by_side=pictures,
        drawn=drawn,
        folded=folded(content.trials),
        undertrained={
            trial for finding in content.findings if finding.kind == SHORT
            for trial in finding.trials
        },
        policy=_policy([script, plotly]),
        style=_read("style.css"),
        script=script,
        plotly=base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode() if plotly else "",
        pictures=to_json(small),
    )  # fmt: skip


def _fitting(plots: Sequence[Plot], most: int) -> dict[str, _Drawn]:
    """The figures by their titles, without the largest where they do not all fit."""
    drawn = {
        plot.title: _Drawn(
            f"plot-{i}",
            _harmless(plot.figure.to_json(validate=False)),
            int(plot.figure.layout.height or 380),
        )
        for i, plot in enumerate(plots)
    }
    total = sum(len(one.json) for one in drawn.values())
    for title in sorted(drawn, key=lambda title: -len(drawn[title].json)):
        if total <= most:
            break
        size = len(drawn.pop(title).json)
        total -= size
        log.warning("the figure «%s» is left out: it takes %.1f MB", title, size / 1e6)
    return drawn


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _policy(scripts: Iterable[str]) -> str:
    """No network at all, and no script but these; plotly sets styles."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts if script)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def to_json(value: Any) -> str:
    """JSON that can stand in a script element."""
    return _harmless(json.dumps(value, allow_nan=False, separators=(",", ":")))


def _harmless(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sections(content: Content) -> Sequence[dict[str, str]]:
    """The entries of the page's navigation."""
    found = [("verdict", "Verdict")]
    if content.estimates:
        found.append(("comparison", "Comparison"))
    if content.levels:
        found.append(("side-by-side", "Pictures"))
    if content.findings or content.notes:
        found.append(("notes", "Notes"))
    found += [(chapter.id, chapter.title) for chapter in content.chapters]
    found.append(("trials", "Trials"))
    if content.commands:
        found.append(("commands", "Commands"))
    return [{"id": name, "title": title} for name, title in found]


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
