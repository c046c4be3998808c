"""Which columns of a long table tell nothing that its others do not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.report.tables import Table

_ALIKE = 0.995  # correlation
_LEAST_ROWS = 12  # fewer often agree by chance


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
    kept: list[NDArray[np.float64]] = []
    for place, column in enumerate(table.columns):
        if place in found or not column.numeric:
            continue
        values = np.array(
            [np.nan if cell.sort is None else float(cell.sort) for cell in columns[place]]
        )
        if any(_are_alike(values, other) for other in kept):
            found.add(place)
        else:
            kept.append(values)
    return frozenset(found)


def _are_alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two columns have values in the same rows, on a straight line and in one order.

    The order is asked for as well, since a few rows far from the others lie on any line.
    """
    known = np.isfinite(one)
    if known.sum() < _LEAST_ROWS or (known != np.isfinite(other)).any():
        return False
    a, b = one[known], other[known]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return False
    ranks = [pd.Series(values).rank() for values in (a, b)]
    return all(abs(np.corrcoef(x, y)[0, 1]) > _ALIKE for x, y in ((a, b), ranks))
