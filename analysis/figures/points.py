"""From the table of trials to what figures draw: columns of metrics, groups, texts to hover."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import Look, escape, label
from analysis.labels import title
from analysis.runs import Runs
from experiments.metrics import METRICS

ABSENT = "-"
_SHOWN = 12  # parameters in a text to hover
_EVERYDAY = ("loss.name", "loss.scale", "loss.degree", "latent_dim", "lr", "beta")


def column_of(table: pd.DataFrame, metric: str) -> str | None:
    """The column that holds a metric: of that name, else of the validation split.

    Returns:
        None if the table has no such column, but could.

    Raises:
        ValueError: there is no such metric.
    """
    for column in (metric, f"val/{metric}"):
        if column in table.columns:
            return column
    if base_name(metric) in METRICS or table.empty:
        return None
    choices = sorted({base_name(c) for c in table.columns if c.startswith(("val/", "test/"))})
    raise ValueError(
        f"a metric must be one of {', '.join(choices or METRICS)} or a column of the trials, "
        f"but got {metric!r}"
    )


def base_name(metric: str) -> str:
    """«psnr» of «val/psnr» and «test/psnr»."""
    return metric.removeprefix("val/").removeprefix("test/")


def maximized(metric: str) -> bool:
    """Whether more of a metric is better; less is, of times."""
    found = METRICS.get(base_name(metric))
    return found is not None and found.direction == "maximize"


def words(metric: str) -> str:
    """How people write a metric: «PSNR», «active units»."""
    return escape(title(base_name(metric)))


def axis_title(metric: str) -> str:
    """«PSNR (dB), more is better»."""
    found = METRICS.get(base_name(metric))
    unit = f" ({found.unit})" if found is not None and found.unit else ""
    if found is None or found.is_descriptive:
        return f"{words(metric)}{unit}"
    return f"{words(metric)}{unit}, {'more' if maximized(metric) else 'less'} is better"


def grouped(table: pd.DataFrame, by: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows of each group, such as «ssim» or «ssim, mean», in the order of first appearance.

    Raises:
        ValueError: a column that is grouped by is missing.
    """
    missing = [name for name in by if name not in table.columns]
    if table.empty:
        return {}
    if missing or not by:
        raise ValueError(
            f"groups must be made by columns of the trials, but got {', '.join(missing) or 'none'}"
        )
    labels = table[list(by)].map(shown).agg(", ".join, axis=1)
    return {str(name): rows for name, rows in table.groupby(labels, sort=False)}


def shown(value: Any) -> str:
    """A value as a person writes it: 0.001, not 0.0010000000000000002; a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral | bool):
        return f"{float(value):.4g}"
    return str(value)


def parameters(runs: Runs) -> list[str]:
    """What distinguishes trials: what was searched, else what varies of the everyday knobs."""
    columns = runs.trials.columns
    found = [name for name in runs.searched if name in columns]
    if found or runs.trials.empty:
        return found
    return [n for n in _EVERYDAY if n in columns and runs.trials[n].map(shown).nunique() > 1]


def described_by(runs: Runs) -> list[str]:
    """The same, or all everyday knobs where nothing distinguishes trials."""
    return parameters(runs) or [name for name in _EVERYDAY if name in runs.trials]


def hover_texts(runs: Runs, table: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """For each row of `table`: the trial, its parameters and its values, escaped.

    Args:
        runs: of which `table` is a part.
        table: rows of `runs.trials`.
        metrics: columns to show.
    """
    names = dict.fromkeys([*described_by(runs)[:_SHOWN], "seed"])
    texts = []
    for _, row in table.iterrows():
        lines = [f"<b>{escape(row['trial'])}</b>, {escape(row['status'])}"]
        lines += [f"{escape(n)} {label(shown(row[n]))}" for n in names]
        lines += [f"{words(m)} {escape(shown(row[m]))}" for m in metrics]
        texts.append("<br>".join(lines))
    return texts


def add_dots(
    made: go.Figure,
    trials: pd.DataFrame,
    x: Any,
    y: Any,
    look: Look,
    hover: Sequence[str],
    name: str,
    **options: Any,
) -> None:
    """Add a dot for each trial, which tells on hovering what it is.

    `customdata` holds the trial of each, so that a page can show more of it.
    """
    made.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.8},
        customdata=[[str(trial)] for trial in trials["trial"]],
        hovertext=hover,
        hoverinfo="text",
        legendgroup=name,
        name=label(name),
        **options,
    )


def add_curve(
    made: go.Figure, x: Any, low: Any, middle: Any, high: Any, look: Look, group: str, **line: Any
) -> None:
    """Add a group's curve, with a faint band from `low` to `high` where these are known."""
    known = np.isfinite(low) & np.isfinite(high)
    made.add_scatter(
        x=np.concatenate([x[known], x[known][::-1]]),
        y=np.concatenate([high[known], low[known][::-1]]),
        fill="toself",
        fillcolor=look.band,
        mode="lines",
        line_width=0,
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
    )
    made.add_scatter(
        x=x,
        y=middle,
        line={"color": look.colour, "dash": look.dash, "width": 2},
        legendgroup=group,
        **line,
    )


def finite(values: pd.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values as floats, NaN where they are missing or infinite."""
    floats = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(floats), floats, np.nan)


def is_number(values: pd.Series) -> bool:
    """Whether all present values are numbers, and there is one."""
    present = values.dropna()
    return len(present) > 0 and all(
        isinstance(v, numbers.Real) and not isinstance(v, bool) for v in present
    )
