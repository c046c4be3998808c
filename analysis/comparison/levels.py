"""Which trials stand for each level, and how much each of them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import decisions
from analysis import labels
from analysis.comparison.alike import LEVEL
from analysis.comparison.confirmed import confirmed
from analysis.comparison.seeds import (
    SCORED,
    alike_throughout,
    counted,
    first_reason,
    grouped,
    is_of,
    is_repeated,
    levels_in,
    merit_by_seed,
)
from analysis.ranking import merit
from analysis.runs import CONFIRM, is_null
from decisions import Array

_ENDED = ("completed", "pruned", "failed")
_COMPARED = 2  # levels, and seeds of each, that make a comparison
_WORST_FIRST = ("failed", "pruned")


@dataclass(frozen=True)
class Level:
    """One of what is compared, such as a loss.

    Attributes:
        name: of the level.
        parameters: what was searched, or differs all the same, of the configuration that stands
            for it; and its loss.
        configurations: that count for it, the one that stands for it first.
        trials: (C, S), names of the trials of these with each seed; None where there is none.
        weights: (C, S), how much each counts; a seed's add up to 1, or 0.
        confirmed: whether the seeds are fresh ones, drawn after the configuration was chosen.
        failed: how many of the seeds with which it was trained gave no score.
        seconds: that each training of that configuration took, as far as that is known; none of
            several sweeps, which may have run on different machines.
    """

    name: str
    parameters: Mapping[str, Any]
    configurations: tuple[str, ...]
    trials: np.ndarray[Any, np.dtype[np.object_]]
    weights: Array
    confirmed: bool
    failed: int
    seconds: tuple[float, ...]

    def table(self, values: Mapping[str, float]) -> Array:
        """What each configuration reached with each seed (C, S), of a value for each trial."""
        return np.array(
            [[values.get(str(name), np.nan) for name in row] for row in self.trials], dtype=float
        )

    def scores(self, values: Mapping[str, float]) -> Array:
        """What the level reached with each seed (S,), of a value for each trial."""
        return decisions.weighted(self.table(values), self.weights)

    @property
    def counted(self) -> list[str]:
        """The trials that count."""
        return [str(name) for name in self.trials[self.weights > 0]]

    @property
    def own(self) -> list[str]:
        """The trials of the configuration that stands for it."""
        return [str(name) for name in self.trials[0] if name is not None]


class Levels(NamedTuple):
    """What is compared.

    Attributes:
        levels: in the order in which they were tried.
        left_out: sentences on levels that are not compared.
        notes: how they were chosen, and what is missing.
        unconfirmed: names of levels that were searched but, unlike others, not confirmed.
    """

    levels: list[Level]
    left_out: list[str]
    notes: list[str]
    unconfirmed: list[str]


def levels_of(
    trials: pd.DataFrame,
    objectives: Sequence[str],
    searched: Sequence[str],
    by: Sequence[str],
    most: int | None = None,
) -> Levels:
    """Choose what stands for each level, by validation scores.

    - Where a sweep confirmed, its confirmations alone count: of each level those of the
      configuration that has most.
    - In a grid with several seeds every seed counts, over the grid points that all levels have.
      Of several configurations a level's seeds each judge what its other seeds chose, from the
      same number of tries for every level (`decisions.chosen_by_other_seeds`).
    - Else there is one training of each level, the best: no more than a first look.

    The trials have the column `level`, and the order in which they began. Where each configuration
    of a search is a level, the best `most` of them are compared, and of those that were confirmed
    all.
    """
    columns = [f"val/{name}" for name in objectives]
    ended = trials[trials["status"].isin(_ENDED)]
    values = ended.reindex(columns=columns).apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(values).all(axis=1)
    ended = ended.assign(
        **{SCORED: (ended["status"] == "completed") & finite},
        # A training that ended with no number has failed, whatever it says.
        status=ended["status"].mask((ended["status"] == "completed") & ~finite, "failed"),
        seed=ended["seed"].fillna(0).astype(int),
    )
    names = list(dict.fromkeys(ended[LEVEL]))
    with_scores = set(ended.loc[ended[SCORED], LEVEL])
    completed = set(trials.loc[trials["status"] == "completed", LEVEL])
    dead = [name for name in names if name not in with_scores | completed]
    left_out = []
    if blank := [name for name in names if name in completed - with_scores]:
        left_out.append(
            f"{labels.listed(blank)} never reached a finite {labels.listed(objectives)}: not "
            "compared"
        )
    if dead:
        why = first_reason(ended[ended[LEVEL].isin(dead)])
        left_out.append(f"no training of {labels.listed(dead)} was completed: not compared{why}")
    ended = ended[ended[LEVEL].isin(with_scores)]
    if ended.empty:
        return Levels([], left_out, [], [])
    if most is None:
        return _chosen(ended, objectives, searched, by, left_out)
    is_fresh = ended[SCORED] & (ended["phase"] == CONFIRM)
    if is_fresh.any():
        best = list(dict.fromkeys(ended.loc[is_fresh, LEVEL]))
        how = f"of {len(with_scores)} configurations the {len(best)} that were trained again"
    else:
        means = ended.assign(merit=merit(ended[ended[SCORED]], objectives))
        means = means.groupby(LEVEL)["merit"].mean().sort_values(ascending=False, kind="stable")
        best = list(means.index[:most])
        how = f"of {len(with_scores)} configurations the best {len(best)}"
    found = _chosen(ended[ended[LEVEL].isin(best)], objectives, searched, by, [])
    is_part = len(best) < len(with_scores)
    return found._replace(notes=[f"compared are {how}", *found.notes] if is_part else found.notes)


def _chosen(
    ended: pd.DataFrame,
    objectives: Sequence[str],
    searched: Sequence[str],
    by: Sequence[str],
    left_out: list[str],
) -> Levels:
    found = confirmed(ended, objectives)
    again = ended[ended["phase"] == CONFIRM]
    notes, unconfirmed = list[str](), list[str]()
    if found is not None:
        rows, kept, unconfirmed = found.rows, found.kept, found.unconfirmed
        left_out += found.left_out
        notes += [*found.notes, *_tries(kept)]
    elif is_repeated(ended[ended["phase"] != CONFIRM]):
        ended = ended[~(ended[SCORED] & (ended["phase"] == CONFIRM))]  # of one level alone
        single = [name for name, rows in grouped(ended) if not is_repeated(rows)]
        if ended[LEVEL].nunique() - len(single) >= _COMPARED:  # one training is no evidence
            left_out += [f"{name} has one seed so far: not compared" for name in single]
            ended = ended[~ended[LEVEL].isin(single)]
        rows, more = alike_throughout(ended, searched, by)
        kept = {name: _tried(rows) for name, rows in grouped(rows)}
        notes += [*more, *_tries(kept)]
    else:
        best = {name: _best_of_search(rows, objectives) for name, rows in grouped(ended)}
        kept, rows = best, ended[is_of(ended, best)]
        counts = {name: len(_tried(of)) for name, of in grouped(ended)}
        if len(again):
            left_out.append(
                "no confirmation succeeded: what there is are single trainings, of which the "
                f"lucky ones were chosen{first_reason(again)}"
            )
        if max(counts.values()) > 1:
            tried = ", ".join(f"{name} {count}" for name, count in counts.items())
            notes.append(f"each is the best of its trials so far ({tried})")
    rows = rows.sort_values(SCORED, ascending=False, kind="stable")  # a retry counts
    notes += _repeated_otherwise(rows, objectives)
    rows = rows.drop_duplicates(["configuration", "seed"]).sort_index()
    alive = set(rows.loc[rows[SCORED], LEVEL])
    lost = [name for name in kept if name not in alive]
    if lost:
        left_out.append(
            f"no training of {labels.listed(lost)} at a grid point that all levels have was "
            "completed: not compared"
        )
    rows = rows[rows[LEVEL].isin(alive)]
    kept = {name: configurations for name, configurations in kept.items() if name in alive}
    seeds = list(dict.fromkeys(rows["seed"]))
    tries = min(map(len, kept.values()))
    parameters = [c for c in dict.fromkeys(("loss.name", *by, *searched)) if c in rows.columns]
    make = partial(
        _level,
        objectives=objectives,
        parameters=parameters,
        confirmed=found is not None,
        # The times of several sweeps may be those of different machines.
        is_timed=rows.reindex(columns=["sweep"])["sweep"].nunique() < _COMPARED,
    )
    levels = [make(name, of, kept[name], seeds, tries) for name, of in grouped(rows)]
    few = [level.name for level in levels if not level.weights.any()]
    if few:
        left_out.append(
            f"{labels.listed(few)} {'has' if len(few) == 1 else 'have'} one seed of several "
            "configurations, which no other seed can judge: not compared"
        )
    judged = [level for level in levels if level.weights.any()]
    single = [one.name for one in judged if one.weights.any(axis=0).sum() < _COMPARED]
    if len(judged) - len(single) >= _COMPARED:  # what one training reached is no evidence
        judged = [level for level in judged if level.name not in single]
        left_out += [f"{name} has one seed so far: not compared" for name in single]
    return Levels(judged, left_out, [*notes, *_missing(rows, seeds)], unconfirmed)


def _level(
    name: str,
    rows: pd.DataFrame,
    configurations: Sequence[str],
    seeds: Sequence[int],
    tries: int,
    *,
    objectives: Sequence[str],
    parameters: Sequence[str],
    confirmed: bool,
    is_timed: bool,
) -> Level:
    scored = rows[rows[SCORED]]
    table = merit_by_seed(scored, objectives).reindex(index=configurations, columns=seeds)
    shares = decisions.chosen_by_other_seeds(table.to_numpy(dtype=float), tries)
    # First the one that stands for the level: whose seeds count most.
    rank = pd.DataFrame({"share": shares.sum(axis=1), "merit": table.mean(axis=1)}, table.index)
    rank = rank.round(9).sort_values(["share", "merit"], ascending=False, kind="stable")
    order = rank.index
    weights = shares[table.index.get_indexer(order)]
    names = scored.pivot(index="configuration", columns="seed", values="trial")
    trials = names.reindex(index=order, columns=seeds).astype(object)
    trials = trials.where(trials.notna(), None)
    of_first = scored[scored["configuration"] == order[0]]
    first = of_first.to_dict("records")[0]  # of Python's own numbers
    times = pd.to_numeric(of_first.get("seconds/total", pd.Series(dtype=float)), errors="coerce")
    times = times[np.isfinite(times)]
    judged = {seed for seed, share in zip(seeds, weights.sum(axis=0), strict=True) if share}
    return Level(
        name=name,
        parameters={
            c: None if is_null(c, first[c]) else first[c]
            for c in parameters
            if is_null(c, first[c]) or not pd.isna(first[c])
        },
        configurations=tuple(order),
        trials=trials.to_numpy(),
        weights=weights,
        confirmed=confirmed,
        failed=len(set(rows.loc[~rows[SCORED], "seed"]) - judged) if judged else 0,
        seconds=tuple(map(float, times)) if is_timed else (),
    )


def _best_of_search(rows: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    scored = rows[rows[SCORED]].drop_duplicates("configuration").assign(seed=0)
    return [str(merit_by_seed(scored, objectives)[0].idxmax())]


def _tries(kept: Mapping[str, Sequence[str]]) -> list[str]:
    counts = {name: len(configurations) for name, configurations in kept.items()}
    least, most = min(counts.values()), max(counts.values())
    if most == 1:
        return []
    how = "each seed judges what the other seeds chose"
    if least == most:
        return [f"of each the best of {least} configurations: {how}"]
    tried = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [
        f"of each what the best of {least} configurations is expected to reach, of those tried "
        f"({tried}): {how}"
    ]


def _repeated_otherwise(rows: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    """That trainings with the same settings and seed reached something else."""
    scored = rows[rows[SCORED]]
    columns = [f"val/{name}" for name in objectives]
    first = scored.drop_duplicates(["configuration", "seed"])
    other = scored.drop_duplicates(["configuration", "seed", *columns])
    other = other[~other.index.isin(first.index)]
    if other.empty:
        return []
    return [
        f"{counted(len(other), 'training')} of {labels.listed(levels_in(other))} "
        f"{'have' if len(other) > 1 else 'has'} the settings and the seed of an earlier one, but "
        "other scores (of other code, or another machine?): the earlier one counts"
    ]


def _missing(rows: pd.DataFrame, seeds: Sequence[int]) -> list[str]:
    """Trainings of a level that gave no score."""
    notes = []
    for name, of in grouped(rows):
        single = of["configuration"].nunique() == 1
        total, unit = (len(seeds), "seeds") if single else (len(of), "trainings")
        for status in _WORST_FIRST:
            count = int((of["status"] == status).sum())
            if count:
                verb = (
                    "failed" if status == "failed" else "were pruned" if count > 1 else "was pruned"
                )
                notes.append(f"{count} of {total} {unit} of {name} {verb}")
    return notes


def _tried(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["configuration"]))
