"""The table of all trials: what each was, how it ended, what it reached and where its record is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis import labels
from analysis.ranking import merit
from analysis.report.tables import (
    DASH,
    Cell,
    Column,
    Row,
    Table,
    common_decimals,
    is_numeric,
    number,
    word,
)
from analysis.runs import Runs
from experiments.metrics import METRICS

MOST_ROWS = 2000
"""Of the table; the CSV format has them all."""
_EVERYDAY = ("loss.name", "loss.scale", "loss.degree", "latent_dim", "lr", "beta")
_STATUSES = ("completed", "pruned", "running", "interrupted", "waiting", "failed")
_REASON = 160  # characters


def trial_table(runs: Runs, base: Path) -> Table:
    """All trials, best first; those that were not completed last.

    Args:
        runs: to show.
        base: the folder from which relative links start.
    """
    table = ranked(runs)
    shown = table.head(MOST_ROWS)
    parameters, metrics = parameter_columns(runs), metric_columns(runs)
    makers = [_Values(shown, name) for name in (*parameters, "seed", *metrics)]
    makers += [_Values(shown, name) for name in ("epochs", "seconds/total") if name in shown]
    columns = [Column("trial"), Column("status"), *(m.column() for m in makers)]
    has_wandb = "wandb" in shown and shown["wandb"].map(is_web).any()
    if has_wandb:
        columns.append(Column("W&B"))
    rows = []
    for _, row in shown.iterrows():
        cells = [_name(row, base), _status(row), *(m.cell(row) for m in makers)]
        if has_wandb:
            web = is_web(row["wandb"])
            cells.append(Cell("run", str(row["wandb"]), link=row["wandb"]) if web else Cell(DASH))
        rows.append(Row(cells, str(row["trial"]), str(row["status"])))
    left_out = (
        f" These are the first {MOST_ROWS:,} of {len(table):,}." if len(table) > MOST_ROWS else ""
    )
    caption = f"Best first, by the validation split.{left_out}"
    return Table(caption, columns, rows)


def ranked(runs: Runs) -> pd.DataFrame:
    """The trials by status, and the completed ones by the objectives, best first."""
    table = runs.trials
    if table.empty:
        return table
    places = {status: place for place, status in enumerate(_STATUSES)}
    keys = {"_status": table["status"].map(places).fillna(len(places))}
    keys["_merit"] = -merit(table, runs.objectives)
    keys |= {"_sweep": table["sweep"].astype(str), "_number": table["number"]}
    order = pd.DataFrame(keys, index=table.index).sort_values(list(keys), kind="stable").index
    return table.loc[order]


def parameter_columns(runs: Runs) -> list[str]:
    """What was searched, else what varies of the everyday knobs."""
    found = [name for name in runs.searched if name in runs.trials and name != "seed"]
    if found:
        return found
    table = runs.trials
    return [n for n in _EVERYDAY if n in table and (len(table) == 1 or table[n].nunique() > 1)]


def metric_columns(runs: Runs) -> list[str]:
    """The metrics of the validation split, the objectives first, then those of the test split."""
    names = [*runs.objectives, *(name for name in METRICS if name not in runs.objectives)]
    columns = [f"{split}/{name}" for split in ("val", "test") for name in names]
    return [name for name in columns if name in runs.trials and runs.trials[name].notna().any()]


def link_to(path: Any, base: Path) -> str:
    """A relative address of a file or folder from `base`, or "" if there is no such thing here."""
    if not isinstance(path, str | os.PathLike) or not Path(path).exists():
        return ""
    target = Path(path).absolute()
    try:
        relative = Path(os.path.relpath(target, base.absolute())).as_posix()
    except ValueError:  # on another drive
        return target.as_uri()
    # A name with a colon would be read as a scheme.
    return "./" + quote(relative) + ("/" if target.is_dir() else "")


def is_web(address: Any) -> bool:
    """Whether it is safe to link: a record could hold `javascript:` as well."""
    return isinstance(address, str) and address.startswith(("https://", "http://"))


class _Values:
    """A column of values: one number format for all of them."""

    def __init__(self, table: pd.DataFrame, name: str) -> None:
        self._name = name
        self._values: Sequence[Any] = table[name].tolist() if name in table else ()
        self._is_measured = name.startswith(("val/", "test/", "seconds/"))
        self._decimals = common_decimals(self._values)

    def column(self) -> Column:
        if self._name == "seconds/total":
            return Column("time", "s", numeric=True)
        split, _, metric = self._name.rpartition("/")
        if not split:
            return Column(self._name, numeric=is_numeric(self._values))
        title = labels.title(metric) if split == "val" else f"{split} {labels.title(metric)}"
        return Column(title, labels.unit(metric), numeric=True)

    def cell(self, row: pd.Series) -> Cell:
        value = row.get(self._name)
        if self._is_measured:
            return number(value, self._decimals)
        if self._name in ("seed", "epochs"):
            return number(value, 0)
        return word(value)


def _name(row: pd.Series, base: Path) -> Cell:
    return Cell(str(row["trial"]), str(row["trial"]), link=link_to(row.get("directory"), base))


def _status(row: pd.Series) -> Cell:
    status = str(row["status"])
    reason = row.get("reason")
    lines = reason.strip().splitlines() if isinstance(reason, str) else []
    text = lines[0] if lines else ""
    return Cell(status, status, text if len(text) <= _REASON else f"{text[: _REASON - 1]}…")
