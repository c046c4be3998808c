"""The report as Markdown: for a README, a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.report.content import Cell, Chapter, Command, Content, Plot, Table
from experiments.cli import commands
from experiments.errors import UserError

_MOST_ROWS = 50
_MOST_NAMED = 8
_WIDTH, _WIDE = 760, 1100  # pixels of figures


def render(content: Content, figures: Mapping[str, str] | None = None) -> str:
    """The text.

    Args:
        content: of the report.
        figures: where files of plots are, by the plots' titles; the others are left to the page.
    """
    return "\n".join(_lines(content, figures or {})).rstrip() + "\n"


def save_figures(content: Content, folder: Path) -> dict[str, Path]:
    """Write each figure as an SVG that can be read on light and on dark pages.

    Those that consist of pictures of the data or of models are left out; of each part of the
    report those of its first metric are drawn.

    Args:
        content: of the report.
        folder: for the files, made if need be.

    Returns:
        The file of each plot by its title.

    Raises:
        UserError: kaleido is not installed, or finds no browser that draws.
    """
    parts = {"comparison": content.effects} | {one.id: one.plots for one in content.chapters}
    plots = {
        folder / f"{name}-{_slug(plot.title)}.svg": plot
        for name, part in parts.items()
        for plot in part
        if not plot.figure.layout.images
        and plot.metric in ("", next((one.metric for one in part if one.metric), ""))
    }
    folder.mkdir(parents=True, exist_ok=True)
    if plots:
        _draw(plots)
    return {plot.title: path for path, plot in plots.items()}


def _draw(plots: Mapping[Path, Plot]) -> None:
    import plotly.io

    widths = [_WIDE if plot.wide else _WIDTH for plot in plots.values()]
    figures = [plot.figure for plot in plots.values()]
    try:
        plotly.io.write_images(figures, list(plots), width=widths, validate=False)
    except Exception as error:  # of kaleido and of the browser that it starts
        raise UserError(
            "figures are drawn by kaleido and Chrome or Chromium "
            f"({commands.install('notebooks')}; BROWSER_PATH names the browser), but that failed: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error


def _slug(title: str) -> str:
    """«what-mattered» of «What mattered»."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _lines(content: Content, figures: Mapping[str, str]) -> Iterator[str]:
    yield f"# {_text(content.title)}"
    yield f"\n{_text(content.subtitle)}\n"
    first, *others = content.verdict
    yield f"**{_text(first)}**\n"
    for sentence in others:
        yield f"{_with_command(sentence, content.commands)}\n"
    for name, value in content.facts:
        yield f"- {_text(name)}: {_text(value)}"
    if content.estimates:
        yield "\n## Comparison\n"
        yield from _drawn(content.effects, figures)
        yield from _table(content.estimates)
    for detail in content.details:
        yield from _chapter(detail, "###", figures)
    if content.findings or content.notes:
        yield "\n## Know before you trust it\n"
    for finding in content.findings:
        remedy = f"Remedy: {finding.remedy}" if finding.remedy else ""
        parts = (finding.evidence, ", ".join(finding.trials[:_MOST_NAMED]), remedy)
        yield f"- **{_text(finding.what)}** {'. '.join(_text(part) for part in parts if part)}"
    for note in content.notes:
        yield f"- {_text(note)}"
    for chapter in content.chapters:
        yield from _chapter(chapter, "##", figures)
    yield "\n## Trials\n"
    yield from _table(content.trials)
    for broken in content.broken:
        yield f"- could not be read: {_code(broken.where)} {_text(broken.reason)}"
    if content.commands:
        yield "\n## Commands\n"
    for command in content.commands:
        yield f"To {_text(command.purpose)}:\n\n```bash\n{command.text}\n```\n"
    yield f"\n{_text(content.made)}"


def _chapter(chapter: Chapter, level: str, figures: Mapping[str, str]) -> Iterator[str]:
    said = [f"{_text(sentence)}\n" for sentence in chapter.sentences]
    said += _table(chapter.table) if chapter.table else []
    said += _drawn(chapter.plots, figures)
    if said:
        yield f"\n{level} {_text(chapter.title)}\n"
        yield from said


def _drawn(plots: Sequence[Plot], figures: Mapping[str, str]) -> Iterator[str]:
    for plot in plots:
        if plot.title in figures:
            yield f"\n![{_text(plot.title)}](<{figures[plot.title]}>)\n"
            yield f"**{_text(plot.title)}.** {_text(plot.caption)}\n"


def _table(table: Table) -> Iterator[str]:
    yield f"{_text(table.caption)}\n"
    yield _row([f"{c.title} ({c.note})" if c.note else c.title for c in table.columns])
    yield "|" + "|".join(" ---: " if c.numeric else " --- " for c in table.columns) + "|"
    for row in table.rows[:_MOST_ROWS]:
        yield _row([_cell(cell) for cell in row.cells])
    if len(table.rows) > _MOST_ROWS:
        yield f"\n{len(table.rows) - _MOST_ROWS} more rows are left out here."


def _cell(cell: Cell) -> str:
    note = f" ({cell.note})" if cell.note else ""
    mark = f" [{cell.mark}]" if cell.mark else ""
    return f"{cell.text}{note}{mark}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(text: object) -> str:
    """Text that stays text: no markup, no HTML, one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))


def _with_command(sentence: str, commands: Sequence[Command]) -> str:
    """A sentence that may end in one of the commands, which is to be copied as it is."""
    for command in commands:
        if sentence.endswith(command.text):
            return f"{_text(sentence.removesuffix(command.text))}\n\n```bash\n{command.text}\n```"
    return _text(sentence)


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
