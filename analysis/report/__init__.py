"""One file that says what a sweep found: `python -m analysis.report outputs/vae/sweep`.

`gather` finds what there is to say (`content`); `html` and `markdown` say it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UserError
from experiments.record.files import replacing

if TYPE_CHECKING:
    from analysis.report.content import Content
    from analysis.runs import Runs

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
        UserError: there is no such format, it has no use for an argument, the file cannot be
            written, or figures not be drawn.
    """
    if form not in FORMS:
        raise UserError(f"`form` must be one of {', '.join(FORMS)}, but got {form!r}")
    if figures is not None and form != "md":
        raise UserError(f"`--figures` must go with `--format md`, but the format is {form}")
    if margins and form == "csv":
        raise UserError("`--margin` must go with an answer, which `--format csv` has none of")
    _check_writable(out)  # before a minute's work
    if form == "csv":
        _replace(out, str(runs.trials.to_csv(index=False)))
        return None
    from analysis.report import gather, html, markdown

    content = gather.gather(runs, sources, out.parent, margins)
    if form == "html":
        _replace(out, html.render(content))
        return content
    files = markdown.save_figures(content, figures) if figures is not None else {}
    places = {title: os.path.relpath(path, out.parent) for title, path in files.items()}
    _replace(out, markdown.render(content, places))
    return content


def default_path(sources: Sequence[str], form: str) -> Path:
    """`report.html` in a directory that is the only source, else in the working directory."""
    here = Path(sources[0]) if len(sources) == 1 and Path(sources[0]).is_dir() else Path()
    return here / f"report.{form}"


def _check_writable(out: Path) -> None:
    why = "it is a directory" if out.is_dir() else None
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        why = f"{out.parent}: {error.strerror}"
    if why is not None:
        raise UserError(
            f"`--out` must be a file in a directory that can be written, but got {out} ({why}); "
            "give another --out"
        )


def _replace(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
