"""Which configuration stands for each loss, chosen on the validation split alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import labels
from analysis.runs import Runs
from analysis.statistics import Array, mean_ranks, ranks
from experiments.errors import UserError

BY = ("loss.name",)
_DEFAULT_OBJECTIVES = ("psnr", "ms_ssim")
_TRIED = ("completed", "pruned", "failed")
_SAME_IMAGES = (
    "data.name", "data.root", "data.size", "data.channels", "data.fit", "data.val_fraction",
    "data.test_fraction", "data.split_seed", "data.count", "data.generator_seed",
)  # fmt: skip
"""Columns that decide which images are held out."""


@dataclass(frozen=True)
class Chosen:
    """The configuration that stands for a group of trials, such as those of one loss.

    Attributes:
        group: its label.
        configuration: as in `Runs.trials`.
        parameters: what was searched, what makes the group, and `loss.name`.
        trials: names of its completed trials, one a seed.
        seeds: of those trials.
        confirmed: whether the seeds are fresh ones, drawn after it was chosen.
        tried: how many configurations of the group it was chosen from.
    """

    group: str
    configuration: str
    parameters: Mapping[str, Any]
    trials: tuple[str, ...]
    seeds: tuple[int, ...]
    confirmed: bool
    tried: int


def choose(
    runs: Runs, *, by: Sequence[str] = BY, equal_budget: bool = True
) -> tuple[list[Chosen], list[str]]:
    """The best configuration of each group by the validation split, and how it was chosen.

    By the objective of the sweep; with several, by the mean of the places in each. A
    configuration counts with the mean over its seeds, and with its fresh seeds alone if it was
    confirmed with at least two: the seed of the search was selected for, and so flatters it.
    Confirmed configurations stand above the others, as they do in the sweep's own table.

    Args:
        runs: the trials.
        by: columns of `runs.trials` whose values make a group.
        equal_budget: choose from the same number of configurations in every group, the first that
            were tried: the best of more is better by luck alone. Pruned and failed ones count.

    Returns:
        One configuration for each group, in the order in which the groups were first tried, and
        notes for people.

    Raises:
        UserError: there is no such column.
    """
    _check_columns(runs, by)
    trials, notes = _on_the_same_images(_in_order(runs.trials))
    objectives = runs.objectives or _DEFAULT_OBJECTIVES
    tried = trials[trials["status"].isin(_TRIED)]
    groups: dict[str, pd.DataFrame] = {
        labels.group_label(dict(zip(by, values, strict=True))): rows
        for values, rows in tried.groupby(list(by), sort=False, dropna=False)
    }
    found = {name: _candidates(rows, objectives) for name, rows in groups.items()}
    counts = {name: _tried(rows) for name, rows in groups.items() if found[name]}
    without = [name for name in groups if not found[name]]
    if without:
        notes.append(f"no trial of {labels.listed(without)} was completed: left out")
    if not counts:
        return [], notes
    budget = min(len(configurations) for configurations in counts.values())
    chosen = []
    for name, configurations in counts.items():
        allowed = configurations[:budget] if equal_budget else configurations
        candidates = [c for c in found[name] if c.configuration in set(allowed)]
        if not candidates:
            notes.append(
                f"none of the first {budget} configurations of {name} was completed: left out; "
                "equal_budget=False chooses from all"
            )
            continue
        best = _best(candidates, objectives)
        chosen.append(_described(name, best, runs, by, len(allowed)))
    return chosen, [*notes, *_budget_notes(counts, budget, equal_budget, objectives)]


def places(runs: Runs) -> dict[str, int]:
    """The place of each configuration among all, 1 the best on validation images."""
    objectives = runs.objectives or _DEFAULT_OBJECTIVES
    candidates = _candidates(runs.trials, objectives)
    if not candidates:
        return {}
    order = np.argsort(_mean_places(candidates, objectives), kind="stable")
    return {candidates[index].configuration: place for place, index in enumerate(order, start=1)}


@dataclass(frozen=True)
class _Candidate:
    configuration: str
    rows: pd.DataFrame
    confirmed: bool
    means: tuple[float, ...]


def _candidates(rows: pd.DataFrame, objectives: Sequence[str]) -> list[_Candidate]:
    """The configurations with a completed trial that has every objective."""
    columns = [f"val/{name}" for name in objectives]
    if not set(columns) <= set(rows.columns):
        return []
    completed = rows[rows["status"] == "completed"].dropna(subset=columns)
    completed = completed[np.isfinite(completed[columns].astype(float)).all(axis=1)]
    candidates = []
    for configuration, same in completed.groupby("configuration", sort=False):
        fresh = _one_a_seed(same[same["phase"] == "confirm"])
        confirmed = len(fresh) > 1
        kept = fresh if confirmed else _one_a_seed(same)
        means = tuple(float(kept[column].mean()) for column in columns)
        candidates.append(_Candidate(str(configuration), kept, confirmed, means))
    return candidates


def _best(candidates: Sequence[_Candidate], objectives: Sequence[str]) -> _Candidate:
    candidates = [c for c in candidates if c.confirmed] or candidates
    return candidates[int(np.argmin(_mean_places(candidates, objectives)))]


def _mean_places(candidates: Sequence[_Candidate], objectives: Sequence[str]) -> Array:
    means = np.array([c.means for c in candidates])
    columns = [
        ranks(column, labels.better(objective))
        for column, objective in zip(means.T, objectives, strict=True)
    ]
    return mean_ranks(np.stack(columns, axis=1))


def _described(name: str, best: _Candidate, runs: Runs, by: Sequence[str], tried: int) -> Chosen:
    row = best.rows.iloc[0]
    columns = [c for c in dict.fromkeys(("loss.name", *by, *runs.searched)) if c in row.index]
    parameters = {column: _plain(row[column]) for column in columns if not pd.isna(row[column])}
    seeds = [int(seed) for seed in best.rows["seed"].dropna()]
    trials = tuple(map(str, best.rows["trial"]))
    return Chosen(name, best.configuration, parameters, trials, tuple(seeds), best.confirmed, tried)


def _budget_notes(
    counts: Mapping[str, Sequence[str]],
    budget: int,
    equal_budget: bool,
    objectives: Sequence[str],
) -> list[str]:
    most = max(map(len, counts.values()))
    metrics = labels.listed([labels.title(name) for name in objectives])
    if most == 1:
        return []
    if budget == most:
        return [f"each is the best of {budget} configurations by {metrics} on validation images"]
    tried = ", ".join(f"{name} {len(configurations)}" for name, configurations in counts.items())
    if equal_budget:
        return [
            f"each is the best of the first {budget} configurations tried, by {metrics} on "
            f"validation images: an equal budget (tried were: {tried})"
        ]
    return [
        f"each is the best by {metrics} on validation images, of unequal numbers of "
        f"configurations ({tried}): the best of more is better by luck alone"
    ]


def _tried(rows: pd.DataFrame) -> list[str]:
    """Configurations of the search in the order in which they were tried."""
    searched = rows[rows["phase"] != "confirm"]
    return list(dict.fromkeys((searched if len(searched) else rows)["configuration"].map(str)))


def _in_order(trials: pd.DataFrame) -> pd.DataFrame:
    number = pd.to_numeric(trials["number"]).astype("Float64")  # a single run has none
    return trials.assign(number=number).sort_values("number", kind="stable")


def _on_the_same_images(trials: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The trials on the images that most of the completed ones had."""
    columns = [
        c for c in _SAME_IMAGES if c in trials.columns and trials[c].nunique(dropna=False) > 1
    ]
    completed = trials[trials["status"] == "completed"]
    if not columns or completed.empty:
        return trials, []
    images = trials[columns].map(repr).agg(", ".join, axis=1)
    most = images[completed.index].mode().iloc[0]
    left_out = int((images[completed.index] != most).sum())
    if not left_out:
        return trials[images == most], []
    kept = dict(zip(columns, trials[images == most][columns].iloc[0], strict=True))
    return trials[images == most], [
        f"{left_out} completed trials on other images are left out; compared are those with "
        f"{labels.listed([f'{key}={value}' for key, value in kept.items()])}"
    ]


def _one_a_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The same seed again is no more evidence."""
    return rows[~rows["seed"].duplicated() | rows["seed"].isna()]


def _check_columns(runs: Runs, by: Sequence[str]) -> None:
    unknown = [column for column in by if column not in runs.trials.columns]
    if isinstance(by, str) or not by or (unknown and len(runs.trials)):
        choices = [*runs.searched, *(c for c in runs.trials.columns if c in BY)]
        raise UserError(
            "`by` must be columns of the trials, such as "
            f"{', '.join(dict.fromkeys(choices)) or 'loss.name'}, but got {by!r}"
        )


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value
