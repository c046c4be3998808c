"""What searches chose and fresh seeds judge: the confirmations of one sweep or of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis import labels
from analysis.comparison.alike import LEVEL
from analysis.comparison.seeds import (
    SCORED,
    counted,
    first_reason,
    grouped,
    is_of,
    is_repeated,
    merit_by_seed,
    with_same_seeds,
)
from analysis.runs import CONFIRM


class Confirmed(NamedTuple):
    """Trainings that chose nothing, of what was chosen before them.

    Attributes:
        rows: these trainings.
        kept: of each level, the configurations that were chosen.
        notes: how they were chosen.
        left_out: sentences on levels that have none.
        unconfirmed: names of levels that were searched but, unlike others, not confirmed.
    """

    rows: pd.DataFrame
    kept: dict[str, list[str]]
    notes: list[str]
    left_out: list[str]
    unconfirmed: list[str]


def confirmed(ended: pd.DataFrame, objectives: Sequence[str]) -> Confirmed | None:
    """The fresh seeds of what each sweep's search chose for each level.

    With them count the trainings of the same configurations with other new seeds, which other
    sweeps made, also for a level that was searched and not confirmed. Where several sweeps chose
    differently for a level, its configurations are as those of a grid, if they have the same
    seeds; else the one with most seeds counts.

    Returns:
        None where no confirmation succeeded, or where one level alone has any beside a grid with
        several seeds, in which it can be compared.
    """
    ended = ended.assign(sweep=ended.reindex(columns=["sweep"])["sweep"].fillna(""))
    again, before = ended[ended["phase"] == CONFIRM], ended[ended["phase"] != CONFIRM]
    if not again[SCORED].any():
        return None
    is_own = before["sweep"].isin(again["sweep"])
    own = before[is_own & before[SCORED]]
    known = set(zip(own["configuration"], own["seed"], strict=True))
    pairs = zip(before["configuration"], before["seed"], strict=True)
    is_known = pd.Series([pair in known for pair in pairs], before.index, dtype=bool)
    others = before[~is_own & ~is_known]
    names = list(dict.fromkeys(ended[LEVEL]))
    kept = {
        name: _choices(again[again[LEVEL] == name], own[own[LEVEL] == name], objectives)
        for name in names
    }
    same = others[is_of(others, kept)]
    rows = pd.concat([again[is_of(again, kept)], same]).sort_index()
    alive = set(rows.loc[rows[SCORED], LEVEL])
    if len(alive) == 1 < before[LEVEL].nunique() and is_repeated(before):
        return None
    rows = rows[rows[LEVEL].isin(alive)]
    parts = [_alike(of, objectives) if len(kept[name]) > 1 else of for name, of in grouped(rows)]
    rows = pd.concat(parts).sort_index()
    kept = {name: list(dict.fromkeys(of["configuration"])) for name, of in grouped(rows)}
    left_out = []
    unconfirmed = [n for n in names if n not in alive and n not in set(again[LEVEL])]
    if unconfirmed:
        left_out.append(f"not confirmed: {labels.listed(unconfirmed)}, and so not compared")
    if broken := [name for name in names if name not in alive and name not in unconfirmed]:
        why = first_reason(again[again[LEVEL].isin(broken)])
        left_out.append(f"no confirmation of {labels.listed(broken)} succeeded: not compared{why}")
    notes = ["compared are fresh seeds of the configuration that the search chose for each"]
    if len(same):
        notes.append(f"{counted(len(same), 'training')} of other sweeps among them")
    if ignored := len(others) - len(same):
        notes.append(
            f"{counted(ignored, 'training')} of other sweeps, not of what the search chose, "
            f"{'do' if ignored > 1 else 'does'} not count"
        )
    return Confirmed(rows, kept, notes, left_out, unconfirmed)


def _choices(again: pd.DataFrame, own: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    """The configurations of a level that the search of each sweep chose.

    Of those that were confirmed, as far as any were. A search that went on may have chosen another
    one since, which has fewer fresh seeds as yet. As in the sweep itself, that is the one that
    counts.
    """
    fresh = again[again[SCORED]]
    if fresh.empty:
        return [_best(own, objectives)] if len(own) else []
    chosen = []
    for sweep, rows in fresh.groupby("sweep", sort=False):
        is_among = (own["sweep"] == sweep) & own["configuration"].isin(rows["configuration"])
        known = own[is_among]
        chosen.append(_best(known, objectives) if len(known) else _most_seeds(rows, objectives))
    return list(dict.fromkeys(chosen))


def _best(scored: pd.DataFrame, objectives: Sequence[str]) -> str:
    once = scored.drop_duplicates(["configuration", "seed"])
    return str(merit_by_seed(once, objectives).mean(axis=1).idxmax())


def _most_seeds(scored: pd.DataFrame, objectives: Sequence[str]) -> str:
    """The configuration with most seeds, the better one of several."""
    means = merit_by_seed(scored.drop_duplicates(["configuration", "seed"]), objectives)
    order = pd.DataFrame({"seeds": means.notna().sum(axis=1), "merit": means.mean(axis=1)})
    return str(order.sort_values(["seeds", "merit"], kind="stable").index[-1])


def _alike(rows: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    found = with_same_seeds([rows], rows["configuration"])
    if found is not None:
        return found
    return rows[rows["configuration"] == _most_seeds(rows[rows[SCORED]], objectives)]
