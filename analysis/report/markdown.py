"""The report as Markdown: for a README, a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from analysis.report.commands import Command
from analysis.report.content import Content, Plot
from analysis.report.tables import Cell, Table

_MOST_ROWS = 50
_MOST_NAMED = 8


def render(content: Content, figures: Mapping[str, str] | None = None) -> str:
    """The text.

    Args:
        content: of the report.
        figures: where files of plots are, by the plots' titles; the others are left to the page.
    """
    return "\n".join(_lines(content, figures or {})).rstrip() + "\n"


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
        yield f"\n### {_text(detail.title)}\n"
        yield from _table(detail.table)
    if content.findings or content.notes:
        yield "\n## Know before you trust it\n"
    for finding in content.findings:
        remedy = f"Remedy: {finding.remedy}" if finding.remedy else ""
        parts = (finding.evidence, ", ".join(finding.trials[:_MOST_NAMED]), remedy)
        yield f"- **{_text(finding.what)}** {'. '.join(_text(part) for part in parts if part)}"
    for note in content.notes:
        yield f"- {_text(note)}"
    for chapter in content.chapters:
        drawn = [plot for plot in chapter.plots if plot.title in figures]
        if chapter.sentences or chapter.table or drawn:
            yield f"\n## {_text(chapter.title)}\n"
            for sentence in chapter.sentences:
                yield f"{_text(sentence)}\n"
            if chapter.table:
                yield from _table(chapter.table)
            yield from _drawn(drawn, figures)
    yield "\n## Trials\n"
    yield from _table(content.trials)
    for broken in content.broken:
        yield f"- could not be read: {_code(broken.where)} {_text(broken.reason)}"
    if content.commands:
        yield "\n## Commands\n"
    for command in content.commands:
        yield f"To {_text(command.purpose)}:\n\n```bash\n{command.text}\n```\n"
    yield f"\n{_text(content.made)}"


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


def _row(cells: list[str]) -> str:
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
