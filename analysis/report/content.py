"""What there is to say of a sweep, whatever the format that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from analysis.runs import Broken

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from analysis.diagnosis import Finding

STATUSES = ("completed", "pruned", "running", "interrupted", "waiting", "failed")


class Column(NamedTuple):
    """A column: its heading, what the heading leaves out, such as the unit, and its alignment."""

    title: str
    note: str = ""
    numeric: bool = False


class Cell(NamedTuple):
    """A cell.

    Attributes:
        text: what it says.
        sort: what rows are sorted by; None goes last, whichever way.
        note: a second, smaller line.
        mark: a word before it, such as "best", or "".
        link: an address, or "".
    """

    text: str
    sort: float | str | None = None
    note: str = ""
    mark: str = ""
    link: str = ""


class Row(NamedTuple):
    """A row, and the name and the status of the trial that it is about, if it is about one."""

    cells: Sequence[Cell]
    trial: str = ""
    status: str = ""


class Table(NamedTuple):
    """A table: a sentence on what it shows, and its columns, of which the first names each row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row] = ()


class Plot(NamedTuple):
    """A figure.

    Attributes:
        title: what it shows, in a few words; unique in the report.
        caption: what one reads from it.
        figure: plotly's.
        wide: whether it wants the page's whole width.
        metric: that it shows; of the metrics of a chapter, a reader chooses one at a time.
    """

    title: str
    caption: str
    figure: go.Figure
    wide: bool = False
    metric: str = ""


class Chapter(NamedTuple):
    """A part of the report: sentences, a table and figures, each of which may be missing."""

    id: str
    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    plots: Sequence[Plot] = ()


class Command(NamedTuple):
    """What a command is for, and the command."""

    purpose: str
    text: str


@dataclass(frozen=True)
class Content:
    """A whole report, in the order in which it is read.

    Attributes:
        title: the names of the sweeps.
        subtitle: how many trials there are, and of when the report is.
        verdict: sentences, the most important first; at least one.
        facts: names and values that say what the verdict rests on.
        estimates: what each group reached, or None if there is nothing to compare.
        effects: figures of the comparison.
        levels: names of what is compared, best first, and the trial that stands for each.
        details: further tables of the comparison.
        findings: what went wrong in training, and the remedy.
        notes: how the comparison was made, and what it cannot say.
        chapters: the rest of the analysis.
        trials: all of them.
        statuses: how many trials have each status.
        broken: what could not be read.
        commands: what to run next.
        pictured: names and directories of trials whose pictures the page may show, the most
            important first.
        recommended: the trials of what the verdict says to use.
        made: by what, when.
    """

    title: str
    subtitle: str
    verdict: Sequence[str]
    facts: Sequence[tuple[str, str]]
    estimates: Table | None
    effects: Sequence[Plot]
    levels: Sequence[tuple[str, str]]
    details: Sequence[Chapter]
    findings: Sequence[Finding]
    notes: Sequence[str]
    chapters: Sequence[Chapter]
    trials: Table
    statuses: Sequence[tuple[str, int]]
    broken: Sequence[Broken]
    commands: Sequence[Command]
    pictured: Sequence[tuple[str, str | None]]
    recommended: Sequence[str]
    made: str
