"""Which trials are better by the objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import labels


def merit(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.Series:
    """How good each trial is on the validation images, more is better; NaN where it is unknown.

    It is the objective; of several that the table has, the sum of the places.
    """
    known = [name for name in objectives if f"val/{name}" in trials.columns]
    columns = [
        labels.sign(name) * pd.to_numeric(trials[f"val/{name}"], errors="coerce") for name in known
    ]
    finite = [column.where(np.isfinite(column)) for column in columns]
    if len(finite) > 1:
        finite = [column.rank() for column in finite]
    if not finite:
        return pd.Series(np.nan, index=trials.index)
    return sum(finite[1:], start=finite[0])


def best(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.Series | None:
    """The best completed trial; None where none has a value."""
    values = merit(trials[trials["status"] == "completed"], objectives).dropna()
    return None if values.empty else trials.loc[values.idxmax()]
