"""The table of all trials: what each was, how it ended, what it reached and where its record is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis import labels
from analysis.figures.points import described_by, is_number
from analysis.ranking import merit
from analysis.report.content import STATUSES, Cell, Column, Row, Table
from analysis.report.tables import DASH, common_decimals, number, word
from analysis.runs import Runs
from experiments.metrics import METRICS

MOST_ROWS = 2000
"""Of the table; the CSV format has them all."""
_REASON = 160  # characters


def trial_table(runs: Runs, base: Path) -> Table:
    """All trials, best first; those that were not completed last.

    Args:
        runs: to show.
        base: the folder from which relative links start.
    """
    table = ranked(runs)
    shown = table.head(MOST_ROWS)
    parameters = [name for name in described_by(runs) if name != "seed"]
    measured = ["seed", *_metric_columns(runs), "epochs", "seconds/total"]
    columns = [Column("trial"), Column("status")]
    columns += [Column(name, numeric=is_number(shown[name])) for name in parameters]
    columns += [_measured(name) for name in measured]
    cells = [
        [_name(row, base) for _, row in shown.iterrows()],
        [_status(row) for _, row in shown.iterrows()],
        *([word(value) for value in shown[name]] for name in parameters),
        *(_numbers(shown[name]) for name in measured),
    ]
    if shown["wandb"].map(_is_web).any():
        columns.append(Column("W&B"))
        cells.append([Cell("run", a, link=a) if _is_web(a) else Cell(DASH) for a in shown["wandb"]])
    rows = zip(zip(*cells, strict=True), shown["trial"], shown["status"], strict=True)
    left_out = (
        f" These are the first {MOST_ROWS:,} of {len(table):,}." if len(table) > MOST_ROWS else ""
    )
    caption = f"Best first, by the validation split.{left_out}"
    return Table(caption, columns, [Row(*row) for row in rows])


def ranked(runs: Runs) -> pd.DataFrame:
    """The trials by status, and the completed ones by the objectives, best first."""
    table = runs.trials
    keys = {
        "status": table["status"].map(dict(zip(STATUSES, range(len(STATUSES)), strict=True))),
        "merit": -merit(table, runs.objectives),
        "sweep": table["sweep"].astype(str),
        "number": table["number"],
    }
    order = pd.DataFrame(keys, index=table.index).sort_values(list(keys), kind="stable").index
    return table.loc[order]


def link_to(path: Any, base: Path) -> str:
    """A relative address of a file or folder from `base`, or "" if there is no such thing here."""
    if not isinstance(path, str) or not Path(path).exists():
        return ""
    target = Path(path).absolute()
    try:
        relative = Path(os.path.relpath(target, base.absolute())).as_posix()
    except ValueError:  # on another drive
        return target.as_uri()
    # A name with a colon would be read as a scheme.
    return "./" + quote(relative) + ("/" if target.is_dir() else "")


def _metric_columns(runs: Runs) -> list[str]:
    """The metrics of the validation split, the objectives first, then those of the test split."""
    names = dict.fromkeys([*runs.objectives, *METRICS])
    columns = [f"{split}/{name}" for split in ("val", "test") for name in names]
    return [name for name in columns if name in runs.trials and runs.trials[name].notna().any()]


def _is_web(address: Any) -> bool:
    """Whether it is safe to link: a record could hold `javascript:` as well."""
    return isinstance(address, str) and address.startswith(("https://", "http://"))


def _measured(name: str) -> Column:
    if name == "seconds/total":
        return Column("time", "s", numeric=True)
    split, _, metric = name.rpartition("/")
    if not split:
        return Column(name, numeric=True)
    title = labels.title(metric) if split == "val" else f"{split} {labels.title(metric)}"
    return Column(title, labels.unit(metric), numeric=True)


def _numbers(values: pd.Series) -> list[Cell]:
    decimals = common_decimals(values)
    return [number(value, decimals) for value in values]


def _name(row: pd.Series, base: Path) -> Cell:
    return Cell(str(row["trial"]), str(row["trial"]), link=link_to(row["directory"], base))


def _status(row: pd.Series) -> Cell:
    reason = row["reason"]
    text = reason.strip().partition("\n")[0] if isinstance(reason, str) else ""
    note = text if len(text) <= _REASON else f"{text[: _REASON - 1]}…"
    return Cell(row["status"], row["status"], note)
