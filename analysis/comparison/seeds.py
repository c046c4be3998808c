"""Which trainings can be held against each other: at the same points, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis import labels
from analysis.comparison.alike import LEVEL
from analysis.ranking import merit

SCORED = "scored"
"""The column that says whether a training was completed with finite objectives."""


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
        alike = with_same_seeds([rows for _, rows in grouped(ended[points.isin(shared)])], points)
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
    own = [with_same_seeds([rows], rows["configuration"]) for _, rows in grouped(inside)]
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


def with_same_seeds(levels: Sequence[pd.DataFrame], points: pd.Series) -> pd.DataFrame | None:
    """Of levels, the trials at those points at which all trials of a level have the same seeds.

    In a grid that is not yet finished, a point that has the first seed alone would be chosen for
    how lucky that is, and be judged by no other. Of the ways to leave such out that were looked
    at, it is the one that keeps most points times seeds beyond the first, of the level that has
    fewest, and most points of several such; None where none keeps any. Looked at are all points
    that have what a point has, and what the points with most trials have in common.
    """
    if not levels:
        return None
    tables = [pd.crosstab(points[rows.index], rows["seed"]) > 0 for rows in levels]
    has = pd.concat(tables, axis=1).fillna(value=False).astype(bool)
    trained = has.to_numpy()
    most_first = trained[np.argsort(-trained.sum(axis=1), kind="stable")]
    common = np.vstack([trained, np.logical_and.accumulate(most_first)])
    ends = np.cumsum([0, *(table.shape[1] for table in tables)])

    def worth(kept: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, int]:
        seeds = min(int(kept[i:j].sum()) for i, j in pairwise(ends))
        count = int((trained | ~kept).all(axis=1).sum())
        return max(seeds - 1, 0) * count, count

    best = max(np.unique(common, axis=0), key=worth)
    if not worth(best)[0]:
        return None
    chosen = has.index[(trained | ~best).all(axis=1)]
    return pd.concat(
        rows[points[rows.index].isin(chosen) & rows["seed"].isin(table.columns[best[i:j]])]
        for rows, table, (i, j) in zip(levels, tables, pairwise(ends), strict=True)
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


def is_repeated(rows: pd.DataFrame) -> bool:
    """Whether a configuration was trained with several seeds."""
    seeds = rows[rows[SCORED]].groupby("configuration")["seed"].nunique()
    return bool((seeds > 1).any())


def merit_by_seed(scored: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """How good each configuration (rows) is with each seed (columns), more is better.

    Of several objectives it is the sum of the places among the trials with that seed.
    """
    of_seeds = [merit(rows, objectives) for _, rows in scored.groupby("seed")]
    return scored.assign(merit=pd.concat(of_seeds)).pivot(
        index="configuration", columns="seed", values="merit"
    )


def first_reason(rows: pd.DataFrame) -> str:
    """Why the first of those failed that say why: `; the first that failed: ...`, or nothing."""
    failed = rows[rows["status"] == "failed"].reindex(columns=["reason"])["reason"].dropna()
    lines = str(failed.iloc[0]).strip().splitlines() if len(failed) else []
    return f"; the first that failed: {lines[0]:.200}" if lines else ""
