"""Tables as a report shows them, whatever its format."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

DASH = "\N{EN DASH}"
_DIGITS = 4


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        note: what the heading leaves out, such as the unit.
        numeric: whether its cells are numbers, one below the other.
    """

    title: str
    note: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
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


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        cells: one for each column.
        trial: the name of the trial that the row is about, or "".
        status: of that trial, or "".
    """

    cells: Sequence[Cell]
    trial: str = ""
    status: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: a sentence on what it shows.
        columns: of the table; the first names each row.
        rows: of the table.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=tuple)


def number(value: Any, decimals: int | None = None) -> Cell:
    """A number with so many decimals, else with four significant digits; a dash for none."""
    if not is_finite(value):
        return Cell(DASH)
    return Cell(digits(value, decimals), float(value))


def word(value: Any) -> Cell:
    """A parameter's value as a person writes it, sorted as what it is."""
    if is_missing(value):
        return Cell(DASH)
    if _is_number(value):
        return Cell(f"{float(value):.4g}", float(value))
    return Cell(str(value), str(value).casefold())


def digits(value: float, decimals: int | None = None) -> str:
    """19.48, 0.4830; with a proper minus sign."""
    text = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}") if "e" not in text else text


def common_decimals(values: Iterable[Any]) -> int:
    """How many decimals a column needs so that its largest number shows four digits."""
    found = [abs(float(value)) for value in values if is_finite(value)]
    if all(value.is_integer() for value in found):
        return 0
    largest = max(found)
    return min(6, max(0, _DIGITS - 1 - math.floor(math.log10(largest))))


def is_finite(value: Any) -> bool:
    """Whether it is a number that can be shown."""
    return _is_number(value) and math.isfinite(float(value))


def is_missing(value: Any) -> bool:
    """Whether a table has no value there."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def is_numeric(values: Iterable[Any]) -> bool:
    """Whether all that is there are numbers."""
    present = [v for v in values if not is_missing(v)]
    return bool(present) and all(map(_is_number, present))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
