"""The report as one HTML file that needs nothing else, now or in ten years."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.report.content import Content, Plot
from analysis.report.pictures import thumbnails

_HERE = Path(__file__).parent


def render(content: Content) -> str:
    """The page.

    Names and reasons may hold anything: the template escapes all text, JSON is written so that
    it cannot end its element, and the page's policy runs no script but the two that are in it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    plots = [plot for chapter in content.chapters for plot in chapter.plots]
    scripts = _scripts(with_plots=bool(plots))
    return environment.get_template("page.html").render(
        content=content,
        sections=_sections(content),
        drawn={plot.title: _drawn(plot, f"plot-{i}") for i, plot in enumerate(plots)},
        policy=_policy(scripts),
        style=_read("style.css"),
        scripts=scripts,
        pictures=to_json(thumbnails(content.pictured)),
    )


@dataclass(frozen=True)
class _Drawn:
    id: str
    json: str
    height: int


def _drawn(plot: Plot, name: str) -> _Drawn:
    text = plot.figure.to_json(validate=False)
    return _Drawn(name, _harmless(text), int(plot.figure.layout.height or 380))


def _scripts(*, with_plots: bool) -> list[str]:
    if not with_plots:
        return [_read("report.js")]
    from plotly.offline import get_plotlyjs

    return [get_plotlyjs(), _read("report.js")]


def _policy(scripts: Iterable[str]) -> str:
    """No network at all, and no script but these.

    Plotly's parallel coordinates compile their own code ('unsafe-eval'), and it sets styles.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; "
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
    if content.findings or content.notes:
        found.append(("notes", "Notes"))
    found += [(chapter.id, chapter.title) for chapter in content.chapters]
    found.append(("trials", "Trials"))
    if content.commands:
        found.append(("commands", "Commands"))
    return [{"id": name, "title": title} for name, title in found]


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
