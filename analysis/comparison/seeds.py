"""Which trainings can be held against each other: at the same points, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis import labels
from analysis.comparison.alike import LEVEL

SCORED = "scored"
"""The column that says whether a training was completed with finite objectives."""


def with_others(
    fresh: pd.DataFrame, searched_for: pd.DataFrame, kept: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, int, int]:
    """Confirmations, and what other sweeps trained of the same with seeds that chose nothing.

    Returns:
        Both; how many are of others, and how many of theirs do not count.
    """
    sweeps = searched_for.reindex(columns=["sweep"])["sweep"]
    is_other = ~sweeps.isin(fresh.reindex(columns=["sweep"])["sweep"])
    seen = searched_for[~is_other & searched_for[SCORED]]
    known = set(zip(seen["configuration"], seen["seed"], strict=True))
    pairs = zip(searched_for["configuration"], searched_for["seed"], strict=True)
    is_new = pd.Series([pair not in known for pair in pairs], searched_for.index)
    others = searched_for[is_other & is_new]
    same = others[is_of(others, kept)]
    return pd.concat([fresh, same]).sort_index(), len(same), len(others) - len(same)


def alike_throughout(
    ended: pd.DataFrame, searched: Sequence[str], by: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The trials at the grid points that all levels have, of each level with the same seeds.

    Where there are no such points with several seeds, they are each level's own.
    """
    columns = [
        c
        for c in searched
        if c in ended.columns
        and c not in by
        and all(rows[c].notna().all() for _, rows in grouped(ended))
    ]
    notes = []
    inside = ended
    if columns:
        points = ended[columns].map(str).agg("\n".join, axis=1)
        shared = set.intersection(*(set(points[rows.index]) for _, rows in grouped(ended)))
        alike = _alike([rows for _, rows in grouped(ended[points.isin(shared)])], points)
        if alike is None:
            notes.append(
                f"no value of {labels.listed(columns)} was trained with several seeds by all: each "
                "is compared by its own configurations, the best of as many tries"
            )
        else:
            inside = alike
            lost = ended[~points.isin(shared)]
            if len(lost):
                count = points[lost.index].nunique()
                notes.append(
                    f"compared over the {counted(len(shared), 'grid point')} "
                    f"({', '.join(columns)}) that all levels have; {count} of "
                    f"{labels.listed(levels_in(lost))} that others lack "
                    f"{'are' if count > 1 else 'is'} left out"
                )
            ended = ended[points.isin(shared)]
    own = [_alike([rows], rows["configuration"]) for _, rows in grouped(inside)]
    if all(rows is not None for rows in own):
        inside = pd.concat(own).sort_index()
    lost = ended[~ended.index.isin(inside.index)]
    if len(lost):
        notes.append(
            f"{counted(len(lost), 'training')} of {labels.listed(levels_in(lost))} "
            f"{'are' if len(lost) > 1 else 'is'} left out: what is chosen among must all have the "
            "same seeds"
        )
    return inside, notes


def _alike(levels: Sequence[pd.DataFrame], points: pd.Series) -> pd.DataFrame | None:
    """Of levels, the trials at those points at which all trials of a level have the same seeds.

    In a grid that is not yet finished, a point that has the first seed alone would be chosen for
    how lucky that is, and be judged by no other. Of the ways to leave such out, it is the one that
    keeps most points with most seeds beyond the first of the level that has fewest; None where
    none keeps any.
    """
    if not levels:
        return None
    tables = [pd.crosstab(points[rows.index], rows["seed"]) > 0 for rows in levels]
    counts = pd.concat([table.sum(axis=1) for table in tables], axis=1).sum(axis=1)
    order = counts.sort_values(ascending=False, kind="stable").index
    of_first = [np.logical_and.accumulate(table.reindex(order).to_numpy()) for table in tables]
    beyond = [np.maximum(kept.sum(axis=1) - 1, 0) for kept in of_first]
    worth = np.min(beyond, axis=0) * np.arange(1, len(order) + 1)
    best = int(np.argmax(worth))
    if not worth[best]:
        return None
    chosen = set(order[: best + 1])
    return pd.concat(
        rows[points[rows.index].isin(chosen) & rows["seed"].isin(table.columns[kept[best]])]
        for rows, table, kept in zip(levels, tables, of_first, strict=True)
    ).sort_index()


def levels_in(rows: pd.DataFrame) -> list[str]:
    """Names of the levels, in the order of the rows."""
    return list(dict.fromkeys(rows[LEVEL]))


def counted(count: int, of: str) -> str:
    """`1 training`, `2 trainings`."""
    return f"{count} {of}{'' if count == 1 else 's'}"


def grouped(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each level, under its name."""
    return [(str(name), of) for name, of in rows.groupby(LEVEL, sort=False)]


def is_of(rows: pd.DataFrame, kept: Mapping[str, Sequence[str]]) -> pd.Series:
    """Whether rows are of the configurations that were kept of some level."""
    return rows["configuration"].isin({c for some in kept.values() for c in some})
