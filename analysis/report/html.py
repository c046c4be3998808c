"""The report as one HTML file that needs nothing else, now or in ten years."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from analysis.report.content import Content, Plot
from analysis.report.pictures import SideBySide, side_by_side, thumbnails
from analysis.report.tables import folded
from experiments.scoring.symptoms import SHORT

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_MOST_BYTES = 6_000_000
_LEAST_OF_REST = 1_000_000
"""Bytes that figures and thumbnails may always take, however long the table of trials is."""
_POLICY = (
    "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""No network at all, and no script but those whose digests stand there; plotly sets styles."""


def render(content: Content) -> str:
    """The page.

    Names and reasons may hold anything: the template escapes all text, JSON is written so that
    it cannot end its element, and the page's policy runs no script but those that are in it.
    What does not fit is left out: small pictures of single trials first, then figures; the
    pictures of the levels side by side never are.
    """
    from plotly.offline import get_plotlyjs

    directories = dict(content.pictured)
    levels = [(name, trial, directories.get(trial)) for name, trial in content.levels]
    plots = [*content.effects, *(plot for one in content.chapters for plot in one.plots)]
    plotly = get_plotlyjs() if plots else ""
    page = partial(_page, content, side_by_side(levels), plotly)
    left = max(_LEAST_OF_REST, _MOST_BYTES - len(page({}, {}).encode()))
    drawn = _fitting(plots, left)
    left -= sum(len(one.json) for one in drawn.values())
    return page(drawn, thumbnails(content.pictured, left))


class _Drawn(NamedTuple):
    id: str
    json: str
    height: int


def _page(
    content: Content,
    pictures: SideBySide,
    plotly: str,
    drawn: Mapping[str, _Drawn],
    small: Mapping[str, str],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    short = [finding for finding in content.findings if finding.kind == SHORT]
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        content=content,
        sections=_sections(content),
        side_by_side=pictures,
        drawn=drawn,
        folded=folded(content.trials),
        undertrained={trial for finding in short for trial in finding.trials},
        policy=_POLICY.format(" ".join(_digest(one) for one in (script, plotly) if one)),
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        script=script,
        plotly=base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode() if plotly else "",
        pictures=_harmless(json.dumps(small)),
    )


def _fitting(plots: Sequence[Plot], most: int) -> dict[str, _Drawn]:
    """The figures by their titles, without the largest where they do not all fit."""
    drawn = {
        plot.title: _Drawn(
            f"plot-{i}",
            _harmless(plot.figure.to_json(validate=False)),
            int(plot.figure.layout.height),
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


def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _harmless(text: str) -> str:
    """JSON that can stand in a script element."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sections(content: Content) -> Sequence[tuple[str, str]]:
    """The entries of the page's navigation: names and titles of its parts."""
    found = [
        ("verdict", "Verdict", True),
        ("comparison", "Comparison", content.estimates),
        ("side-by-side", "Pictures", content.levels),
        ("notes", "Notes", [*content.findings, *content.notes]),
        *((chapter.id, chapter.title, True) for chapter in content.chapters),
        ("trials", "Trials", True),
        ("commands", "Commands", content.commands),
    ]
    return [(name, title) for name, title, is_there in found if is_there]
