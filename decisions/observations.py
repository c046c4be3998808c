"""From single trainings to the scores that a decision is about."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from decisions.selection import best_of, judged_by_other_seeds
from decisions.sequential import Array

Point = tuple[tuple[str, Hashable], ...]


@dataclass(frozen=True)
class Observation:
    """One training.

    Attributes:
        level: of what is compared, by its name.
        configuration: what else was searched, without the seed.
        seed: of the training; None if unknown.
        score: that it reached, more is better; NaN if it failed.
        is_fresh: its configuration was chosen before, by other trainings.
        name: of the training.
    """

    level: str
    configuration: Mapping[str, Hashable]
    seed: int | None
    score: float
    is_fresh: bool = False
    name: Hashable = None


@dataclass(frozen=True)
class Scores:
    """What can be compared.

    Attributes:
        levels: names, in the order in which they were first trained.
        values: (K, S), of each level with each seed; NaN where there is none.
        seeds: (S,), None in place of an unknown one.
        chosen: the configuration that stands for each level.
        names: of the trainings of these configurations, by level.
        failed: how many trainings of each chosen configuration failed.
        tried: from how many configurations each was chosen.
        is_fresh: the seeds are others than those that chose the configurations.
        left_out: levels that have nothing to compare, with the reason.
    """

    levels: tuple[str, ...]
    values: Array
    seeds: tuple[int | None, ...]
    chosen: tuple[Mapping[str, Hashable], ...]
    names: tuple[tuple[Hashable, ...], ...]
    failed: tuple[int, ...]
    tried: tuple[int, ...]
    is_fresh: bool
    left_out: Mapping[str, str] = field(default_factory=dict)


def scores_of(observations: Sequence[Observation]) -> Scores:
    """What of some trainings can be compared.

    With fresh seeds only their trainings count. Else levels are compared over the points that all
    of them have (the same values of the other keys that all levels know), and where one has more
    configurations there than another, by the expected best of as many. Where seeds chose among
    several configurations, each seed judges what the others chose.

    Args:
        observations: in the order in which they were begun.
    """
    left_out: dict[str, str] = {}
    by_level: dict[str, list[Observation]] = {}
    for one in observations:
        by_level.setdefault(one.level, []).append(one)
    for level, own in list(by_level.items()):
        if not any(np.isfinite(one.score) for one in own):
            left_out[level] = (
                f"all of its {len(own)} trainings failed" if len(own) > 1 else "failed"
            )
            del by_level[level]
    fresh = {level: [one for one in own if one.is_fresh] for level, own in by_level.items()}
    is_fresh = any(fresh.values())
    if is_fresh:
        left_out |= {level: "not confirmed" for level, own in fresh.items() if not own}
        by_level = {level: own for level, own in fresh.items() if own}
    tables = {level: _table(own) for level, own in by_level.items()}
    tried = {level: len(table) for level, table in tables.items()}
    if is_fresh:
        tables = {level: _most_seeds(table) for level, table in tables.items()}
    else:
        tables = _shared(tables)
    seeds = tuple(dict.fromkeys(seed for table in tables.values() for row in table.values()
                                for seed in row))  # fmt: skip
    seeds = tuple(sorted(seeds, key=lambda seed: (seed is None, seed or 0)))
    tries = min((len(table) for table in tables.values()), default=1)
    values = np.full((len(tables), len(seeds)), np.nan)
    chosen, names, failed = [], [], []
    for i, (level, table) in enumerate(tables.items()):
        scores = _array(table, seeds)
        values[i] = _judged(scores, tries)
        best = list(table)[_best(scores)]
        chosen.append(dict(best))
        of_best = [one for one in by_level[level] if _point(one) == best]
        names.append(tuple(one.name for one in of_best if np.isfinite(one.score)))
        failed.append(sum(not np.isfinite(one.score) for one in of_best))
    return Scores(
        tuple(tables), values, seeds, tuple(chosen), tuple(names), tuple(failed),
        tuple(tried[level] for level in tables), is_fresh, left_out,
    )  # fmt: skip


_Table = dict[Point, dict[int | None, float]]


def _point(one: Observation) -> Point:
    return tuple(sorted(one.configuration.items()))


def _table(observations: Sequence[Observation]) -> _Table:
    """Scores by configuration and seed; the same seed again is no more evidence."""
    table: _Table = {}
    for one in observations:
        row = table.setdefault(_point(one), {})
        if not np.isfinite(row.get(one.seed, np.nan)):
            row[one.seed] = one.score
    return table


def _most_seeds(table: _Table) -> _Table:
    """The configuration with the most scores."""
    best = max(table, key=lambda point: sum(map(np.isfinite, table[point].values())))
    return {best: table[best]}


def _shared(tables: Mapping[str, _Table]) -> dict[str, _Table]:
    """Of each level the configurations at points that all levels have; all, if they share none."""
    known = [{key for point in table for key, _ in point} for table in tables.values()]
    keys = set.intersection(*known) if known else set()

    def place(point: Point) -> Point:
        return tuple((key, value) for key, value in point if key in keys)

    def scored(table: _Table) -> set[Point]:
        return {place(p) for p, row in table.items() if any(map(np.isfinite, row.values()))}

    places = [scored(table) for table in tables.values()]
    shared = set.intersection(*places) if places else set()
    if not shared:
        return {level: dict(table) for level, table in tables.items()}
    return {
        level: {point: row for point, row in table.items() if place(point) in shared}
        for level, table in tables.items()
    }


def _array(table: _Table, seeds: Sequence[int | None]) -> Array:
    return np.array([[row.get(seed, np.nan) for seed in seeds] for row in table.values()])


def _judged(scores: Array, tries: int) -> Array:
    """(S,) of (C, S): by the other seeds, or with one seed what the best of as many reaches."""
    if scores.shape[1] > 1 or len(scores) == 1:
        return judged_by_other_seeds(scores, tries)
    known = np.sort(scores[np.isfinite(scores)])[::-1]
    return np.array([best_of(len(known), min(tries, len(known))) @ known])


def _best(scores: Array) -> int:
    """The configuration with the best mean over the seeds that it has."""
    known = np.isfinite(scores)
    sums = np.where(known, scores, 0.0).sum(axis=1)
    means = np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), -np.inf)
    return int(np.argmax(means))
