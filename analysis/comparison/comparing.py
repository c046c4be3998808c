"""The comparison: `compare`, and `checked` on the test images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import labels
from analysis.comparison import saying
from analysis.comparison.alike import (
    MOST_LEVELS,
    check_columns,
    comparable,
    compares_configurations,
    configurations_of,
    design_of,
    groups_of,
    of_trials,
    unsearched,
)
from analysis.comparison.found import Comparison
from analysis.comparison.levels import Level, levels_of
from analysis.comparison.results import Result, result
from analysis.runs import Runs, check_margin
from decisions import Array
from experiments.metrics import shown

if TYPE_CHECKING:
    from analysis.trained.scores import Scores

log = logging.getLogger(__name__)


def compare(
    runs: Runs,
    scores: Scores | None = None,
    *,
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare levels, such as losses, on what their trainings reached.

    Which trials stand for a level: `analysis.comparison.levels`. What is found of them:
    `decisions`, on the objectives of the sweep.

    Args:
        runs: the trials.
        scores: of images of the test split, for the check.
        by: columns of `runs.trials` that make a level; None for what the sweep compares.
        metrics: secondary ones, or `seconds/epoch`; None for all that say something of their own.
        margins: by metric, below which a difference does not matter; instead of the sweep's, and
            of those of `experiments.metrics`.

    Returns:
        Results and sentences; without levels if nothing was completed.

    Raises:
        UserError: there is no such column.
        ValueError: a metric is unknown, or a margin is no number of 0 or more.
    """
    metrics = [*shown("compared"), labels.SECONDS] if metrics is None else metrics
    for metric in metrics:
        labels.better(metric)
    for name, value in (margins or {}).items():
        check_margin(name, value)
    by = groups_of(runs) if by is None else by
    check_columns(runs, by)
    progress = saying.unfinished(runs)
    runs, notes, lost = comparable(runs, by)
    is_search = compares_configurations(runs) and tuple(by) == configurations_of(runs)
    objectives = runs.objectives or (runs.objective,)
    others = unsearched(runs, by)
    most = MOST_LEVELS if is_search else None
    chosen = levels_of(runs.trials, objectives, (*runs.searched, *others), by, most)
    levels = chosen.levels
    runs = of_trials(runs, [name for level in levels for name in level.counted])
    design = design_of(runs)
    compare = design.compare if design is not None else ()
    is_planned = design is not None and (not compare or compare[0] in by)
    planned = design.planned if design is not None and is_planned else None
    changed = {**(design.margins if design is not None else {}), **(margins or {})}
    confounded = [c for c in others if len({str(one.parameters.get(c)) for one in levels}) > 1]
    chosen = chosen._replace(
        notes=[*notes, *chosen.notes],
        left_out=[*saying.confounded(confounded), *lost, *chosen.left_out],
    )
    rows = runs.trials.set_index("trial")
    results = {}
    if levels:
        for name in dict.fromkeys((*objectives, *metrics)):
            column = name if name == labels.SECONDS else f"val/{name}"
            decided = name in objectives or labels.is_quality(name)
            found = result(name, levels, _values(rows, column), planned, changed, decided=decided)
            if found is not None:
                results[name] = found
    checks = _checks(rows, scores, levels, objectives, planned, changed)
    shares = _shares(scores, levels, results, objectives) if scores is not None else {}
    comparison = Comparison(
        tuple(by), tuple(levels), tuple(objectives), results, checks, shares, planned=planned
    )
    margins = changed if margins else None
    return saying.said(
        runs, comparison, chosen, scores, margins, is_search=is_search, progress=progress
    )


def checked(
    runs: Runs, *, by: Sequence[str] | None = None, margins: Mapping[str, float] | None = None
) -> tuple[Comparison, Scores | None]:
    """The comparison, and the scores on test images of the trials that count in it.

    Where none of them can be scored, since their checkpoints or images are not here, there is no
    check, and a note says why. The arguments are those of `compare`.
    """
    from analysis.trained.scores import score

    comparison = compare(runs, by=by, margins=margins)
    trials = [name for level in comparison.levels for name in level.counted]
    if not trials:
        return comparison, None
    log.info("scoring %d trials on the test split", len(trials))
    scores = score(runs, trials)
    if scores.values:
        return compare(runs, scores, by=by, margins=margins), scores
    why = f"the test split is not scored: {scores.missing[0].reason}"
    return replace(comparison, notes=[*comparison.notes, why]), None


def _values(rows: pd.DataFrame, column: str) -> dict[str, float]:
    if column not in rows.columns:
        return {}
    values = pd.to_numeric(rows[column], errors="coerce")
    return {str(name): float(v) for name, v in values.items() if np.isfinite(v)}


def _checks(
    rows: pd.DataFrame,
    scores: Scores | None,
    levels: Sequence[Level],
    objectives: Sequence[str],
    planned: int | None,
    margins: Mapping[str, float],
) -> dict[str, Result]:
    """The decisions on test images, where every trial that counts was scored.

    Where the same seeds chose a configuration and judge it, all that it was chosen among count:
    what is lucky on the validation images mostly is on the test images, too.
    """
    counted = [name for level in levels for name in level.counted]
    among = [str(name) for level in levels for name in level.trials.flat if name is not None]
    found = {}
    for metric in objectives if counted else ():
        values = _values(rows, f"test/{metric}")
        if scores is not None:
            common = scores.on_common_images(counted)
            means = {name: scores.mean(name, metric) for name in common}
            values |= {name: mean for name, mean in means.items() if np.isfinite(mean)}
        known = _values(rows, f"val/{metric}")
        if {*counted, *(name for name in among if name in known)} <= set(values):
            one = result(metric, levels, values, planned, margins)
            if one is not None:
                found[metric] = one
    return found


def _shares(
    scores: Scores,
    levels: Sequence[Level],
    results: Mapping[str, Result],
    objectives: Sequence[str],
) -> dict[str, dict[str, float]]:
    """On how many of the images the leader is better than each rival, ties counting half."""
    common = scores.on_common_images(name for level in levels for name in level.counted)
    found: dict[str, dict[str, float]] = {}
    for metric in objectives:
        decision = results[metric].decision if metric in results else None
        if decision is None:
            continue
        best = _by_image(scores, levels[decision.leader], metric, common)
        for rival in decision.rivals:
            other = _by_image(scores, levels[rival.level], metric, common)
            seeds = [seed for seed in best if seed in other]
            if seeds:
                signs = [labels.sign(metric) * np.sign(best[s] - other[s]) for s in seeds]
                share = float(np.mean([0.5 + 0.5 * sign.mean() for sign in signs]))
                found.setdefault(metric, {})[levels[rival.level].name] = share
    return found


def _by_image(
    scores: Scores, level: Level, metric: str, common: frozenset[str]
) -> dict[int, Array]:
    """The scores of the images by the trial of each seed that counts most."""
    found: dict[int, Array] = {}
    for seed, weights in enumerate(level.weights.T):
        name = level.trials[int(np.argmax(weights)), seed]
        if weights.any() and name in common and metric in scores.values[name]:
            found[seed] = scores.values[name][metric]
    return found
