"""From sources to a report's file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.report.content import Content
from analysis.report.gather import gather
from analysis.runs import Runs
from experiments.errors import UserError
from experiments.files import replacing

FORMS = ("html", "md", "csv")


def write(
    runs: Runs,
    out: Path,
    *,
    form: str = "html",
    sources: Sequence[str] = (),
    figures: Path | None = None,
    margins: Mapping[str, float] | None = None,
) -> Content | None:
    """Write a report, whole or not at all, and return what it says; of "csv" that is nothing.

    Args:
        runs: to report.
        out: the file, which may be there already.
        form: "html", "md" or "csv" (the table of trials).
        sources: from which the runs were loaded, for the commands that the report tells.
        figures: the folder for the figures of "md", which has none without it.
        margins: by metric, below which a difference does not matter.

    Raises:
        UserError: there is no such format, the file cannot be written, or figures not be drawn.
    """
    if form not in FORMS:
        raise UserError(f"`form` must be one of {', '.join(FORMS)}, but got {form!r}")
    if figures is not None and form != "md":
        raise UserError(f"`--figures` must go with `--format md`, but the format is {form}")
    _check_writable(out)  # before a minute's work
    if form == "csv":
        _replace(out, str(runs.trials.to_csv(index=False)))
        return None
    content = gather(runs, sources, out.parent, margins)
    _replace(out, _render(content, out, form, figures))
    return content


def default_path(sources: Sequence[str], form: str) -> Path:
    """`report.html` in a directory that is the only source, else in the working directory."""
    name = f"report.{form}"
    if len(sources) == 1 and Path(sources[0]).is_dir():
        return Path(sources[0]) / name
    return Path(name)


def _render(content: Content, out: Path, form: str, figures: Path | None) -> str:
    if form == "html":
        from analysis.report import html

        return html.render(content)
    from analysis.report import markdown, stills

    files = stills.save(content, figures) if figures is not None else {}
    return markdown.render(
        content, {title: os.path.relpath(path, out.parent) for title, path in files.items()}
    )


def _check_writable(out: Path) -> None:
    rule = "`--out` must be a file in a directory that can be written"
    if out.is_dir():
        raise UserError(f"{rule}, but {out} is a directory")
    if not out.parent.is_dir():
        raise UserError(f"{rule}, but there is no directory {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{rule}, but {out.parent} is read-only; give another --out")


def _replace(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
