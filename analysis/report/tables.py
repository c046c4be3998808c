"""Cells of tables, as people write them, and which columns say nothing new."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from numbers import Real
from typing import Any

import pandas as pd

from analysis.figures.points import shown
from analysis.report.content import Cell, Table

DASH = "\N{EN DASH}"
_DIGITS = 4
_ALIKE = 0.995  # correlation
_LEAST_ROWS = 12  # fewer often agree by chance


def texts(*words: object) -> list[Cell]:
    """A cell for each word, sorted by it."""
    return [Cell(str(word), str(word)) for word in words]


def number(value: Any, decimals: int | None = None, note: str = "", mark: str = "") -> Cell:
    """A number with so many decimals, else with four significant digits; a dash for none."""
    if not _is_finite(value):
        return Cell(DASH)
    return Cell(digits(value, decimals), float(value), note, mark)


def word(value: Any) -> Cell:
    """A parameter's value as a person writes it, sorted as what it is."""
    if value is None or value is pd.NA or value != value:
        return Cell(DASH)
    is_text = isinstance(value, bool) or not isinstance(value, Real)
    return Cell(shown(value), str(value).casefold() if is_text else float(value))


def digits(value: float, decimals: int | None = None) -> str:
    """19.48, 0.4830; with a proper minus sign."""
    text = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}") if "e" not in text else text


def common_decimals(values: Iterable[Any]) -> int:
    """How many decimals a column needs so that its largest number shows four digits."""
    found = [abs(float(value)) for value in values if _is_finite(value)]
    if all(value.is_integer() for value in found):
        return 0
    return min(6, max(0, _DIGITS - 1 - math.floor(math.log10(max(found)))))


def folded(table: Table) -> frozenset[int]:
    """The places of columns that have one value, or go along with a column to their left.

    The first column, which names the rows, is none of them, nor is one that has more to say, such
    as why trials failed.
    """
    if len(table.rows) < 2:
        return frozenset()
    columns = list(zip(*(row.cells for row in table.rows), strict=True))
    found = {
        place
        for place, cells in enumerate(columns[1:], start=1)
        if not cells[0].note and all(one == other for one, other in pairwise(cells))
    }
    numbers = pd.DataFrame(
        {
            place: [cell.sort for cell in columns[place]]
            for place, column in enumerate(table.columns)
            if column.numeric and place not in found
        },
        dtype=float,
    )
    # A few rows far from the others lie on any line, so that the order is asked for as well.
    alike = (numbers.corr().abs() > _ALIKE) & (numbers.corr("spearman").abs() > _ALIKE)
    present = numbers.notna()
    for place in numbers.columns[present.sum() >= _LEAST_ROWS]:
        left = [p for p in numbers if p < place and p not in found and alike.loc[p, place]]
        if any((present[p] == present[place]).all() for p in left):
            found.add(place)
    return frozenset(found)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
