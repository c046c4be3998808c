"""The answer in sentences, the most important first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from analysis import commands, labels
from analysis.comparison.alike import looks
from analysis.comparison.results import answer, candidates
from analysis.comparison.seeds import first_reason
from analysis.runs import CONFIRM, Runs
from decisions import LEAST_PLAN, Answer, for_all
from experiments.scoring.symptoms import BETTER_THAN_MEAN

if TYPE_CHECKING:
    from analysis.comparison.found import Comparison
    from analysis.comparison.levels import Levels
    from analysis.trained.scores import Scores

_MOST_NAMED = 4
_SAID = {
    "best": "surely best",
    "leads": "first, but not surely best",
    "worse": "surely worse",
    "equal": "practically equal",
    "open": "open",
}


def said(
    runs: Runs,
    comparison: Comparison,
    chosen: Levels,
    scores: Scores | None,
    margins: Mapping[str, float] | None = None,
    *,
    is_search: bool = False,
    progress: tuple[int, int] | None = None,
) -> Comparison:
    """The comparison with its verdict and its notes, and with the command for what is open.

    Args:
        runs: that are compared.
        comparison: without any sentence yet.
        chosen: its levels, and sentences on others.
        scores: of images of the test split.
        margins: that a reader asked for, by metric.
        is_search: each configuration is a level, since nothing else is compared.
        progress: of a sweep that has not ended, see `unfinished`.
    """
    notes = [*_plans(runs), *chosen.notes]
    if any(len(set(one.seeds)) > 1 for one in comparison.primary):
        notes.append(
            "not all have the same seeds: means are over those that each has, differences over "
            "those that both have"
        )
    if not comparison.levels:
        return replace(comparison, notes=notes, verdict=_nothing(runs, chosen.left_out))
    answers = [answer(one, comparison.levels) for one in comparison.primary]
    lines = _answers(comparison, answers)
    unlearned = _learned_nothing(runs, comparison)
    is_all_unlearned = len(unlearned) == len(comparison.levels)
    if is_all_unlearned:  # comes before what was found of them, which is nothing to use
        said = [f"of what there is: {line.removeprefix('use ')}" for line in lines]
        lines = [_said_unlearned("all of them"), *said]
    elif unlearned:
        lines.append(_said_unlearned(labels.listed(unlearned)))
    lines += chosen.left_out
    if len(comparison.levels) == 1 and not chosen.left_out:
        lines.append(_one_level(comparison))
    settling = None
    if progress is not None:
        done, of = progress
        settling = commands.finish(runs, of - done)
        lines.append(f"the sweep has not ended: {done} of {of} trainings are done")
    elif not is_all_unlearned:  # more of what learns nothing would settle nothing
        by = () if is_search else comparison.by
        settling = _settling(runs, comparison, answers, by, chosen.unconfirmed, margins)
    plans = [found.fresh_seeds for found in answers if found.fresh_seeds is not None]
    if settling is None and plans and not is_all_unlearned:
        lines.append(
            "what is open takes a study of its own, under another name: of these alone, with "
            f"{max(plans)} seeds of each"
        )
    if settling is not None:
        lines.append(f"{settling.cost} {settling.purpose}: {settling.command}")
    lines += [_check(comparison, metric) for metric in comparison.checks if _is_decided(comparison)]
    if scores is not None:
        own = {name for level in comparison.levels for name in level.counted}
        lost = [broken for broken in scores.missing if broken.where in own]
        notes += [f"{broken.where} has no test scores: {broken.reason}" for broken in lost]
    return replace(comparison, notes=notes, verdict=lines, settling=settling)


def _plans(runs: Runs) -> list[str]:
    """Why an answer over several sweeps may say less than each of them."""
    notes = []
    plans = dict.fromkeys(map(looks, runs.designs.values()))
    if len(plans) > 1:
        said = labels.listed([f"{plan} seeds" if plan else "an unknown number" for plan in plans])
        notes.append(
            f"the sweeps planned {said}, so that the error is spread over all looks as if nobody "
            "had planned any: intervals are wider than those of one sweep"
        )
    margins = [dict(one.margins) for one in runs.designs.values()]
    if any(one != margins[0] for one in margins):
        notes.append("the sweeps have different margins, of which the smallest count")
    if not runs.objectives and runs.trials["sweep"].nunique() > 1:
        notes.append(
            f"the sweeps have different objectives: {labels.title(runs.objective)} decides"
        )
    return notes


def _learned_nothing(runs: Runs, comparison: Comparison) -> list[str]:
    """Levels whose every model is no better than the mean image: they lost by their training."""
    columns = ["val/psnr", "val/mean_image_psnr"]
    if not set(columns) <= set(runs.trials):
        return []
    psnr, of_mean = (
        pd.to_numeric(runs.trials.set_index("trial")[c], errors="coerce") for c in columns
    )
    learned = psnr >= of_mean + BETTER_THAN_MEAN
    unknown = psnr.isna() | of_mean.isna()
    return [
        level.name
        for level in comparison.levels
        if not (learned | unknown).reindex(level.own).any()
    ]


def unfinished(runs: Runs) -> tuple[int, int] | None:
    """How many trainings of a single sweep have ended, of how many; None unless some are missing.

    Of a search that may stop early nobody knows whether it has.
    """
    if (
        runs.trials.empty
        or runs.trials["sweep"].nunique() != 1
        or len(runs.designs) != 1
        or commands.is_part(runs)
    ):
        return None
    (design,) = runs.designs.values()
    rows = runs.trials[runs.trials["phase"] != CONFIRM]
    ended = rows[rows["status"].isin(["completed", "pruned", "failed"])]
    count = len(ended[["configuration", "seed"]].drop_duplicates())
    is_part = design.trials is not None and count < design.trials
    return (count, design.trials or 0) if is_part and not commands.may_stop_early(runs) else None


def _said_unlearned(which: str) -> str:
    return (
        f"no better than the mean image by PSNR: {which}; unless pictures show more, nothing was "
        "learned there, which says nothing of how good they are: train longer (max_epochs) or with "
        "other learning rates; «Know before you trust it» in the report says more"
    )


def _is_decided(comparison: Comparison) -> bool:
    """Whether there was anything to decide, which test images could contradict."""
    return any(max(one.seeds, default=0) > 1 and len(one.levels) > 1 for one in comparison.primary)


def _one_level(comparison: Comparison) -> str:
    keys = labels.listed([column.removesuffix(".name") for column in comparison.by])
    has = "has one level" if len(comparison.by) == 1 else "have one level together"
    return f"{keys} {has}, {comparison.levels[0].name}; a comparison needs two or more"


def _nothing(runs: Runs, left_out: Sequence[str]) -> list[str]:
    if runs.trials.empty:
        return ["there are no trials to compare"]
    if (runs.trials["status"] == "completed").any() and left_out:
        return ["nothing can be compared", *left_out]
    counts = runs.trials["status"].value_counts()
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    line = f"no trial was completed, so there is nothing to compare ({states})"
    return [f"{line}{first_reason(runs.trials)}"]


def confounded(columns: Sequence[str]) -> list[str]:
    """That levels differ in something else as well."""
    if not columns:
        return []
    keys = labels.listed([column.removesuffix(".name") for column in columns])
    return [
        f"what is compared differs in {keys} as well, which no sweep searched: a difference may "
        "come from there"
    ]


def _answers(comparison: Comparison, answers: Sequence[Answer]) -> list[str]:
    """Of several objectives what to use in all, and then each, which names its metric."""
    if len(answers) == 1:
        return list(answers[0].sentences)
    said = [
        f"by {one.measure.title}, {sentence.removeprefix('use ')}"
        for one, found in zip(comparison.primary, answers, strict=True)
        for sentence in found.sentences
    ]
    decisions = [one.decision for one in comparison.primary if one.decision is not None]
    if not decisions or len(comparison.levels) < 2:
        return said
    titles = [one.measure.title for one in comparison.primary if one.decision is not None]
    named = candidates(comparison.primary[0], comparison.levels)
    return [for_all(decisions, named, titles), *said]


def _settling(
    runs: Runs,
    comparison: Comparison,
    answers: Sequence[Answer],
    by: Sequence[str],
    unconfirmed: Sequence[str],
    margins: Mapping[str, float] | None,
) -> commands.Settling | None:
    """What would probably settle what is open; None where nothing would."""
    if runs.trials["sweep"].nunique() > 1 or commands.is_part(runs):  # no one command adds to them
        return None
    levels, primary = comparison.levels, comparison.primary
    seeds = [max(one.seeds[i] for one in primary) for i in range(len(levels))]
    is_open = {i for found in answers for i in found.open_levels}
    is_confirmed = any(level.confirmed for level in levels)
    # As many seeds will fail as have failed.
    asked = is_open or range(len(levels))
    failing = max((seeds[i] + levels[i].failed) / max(seeds[i], 1) for i in asked)
    fresh = None
    least = max(*seeds, comparison.planned or LEAST_PLAN)
    wanted: int | None = least
    if max(seeds) < 2:
        again = runs.trials.loc[runs.trials["phase"] == CONFIRM, "status"]
        if len(again) and not (again == "completed").any():  # more would fail as well
            return None
        purpose = "would show whether it is luck"
        # What a search found was chosen with its seed, so that this seed counts no more.
        have = seeds if is_confirmed else [0] * len(levels)
        wanted = math.ceil(least * failing)
    elif is_open:
        purpose = "would probably settle what is open"
        looks = [found.seeds for found in answers if found.open_levels]
        added = None if None in looks else max(n for n in looks if n is not None)
        wanted = added and math.ceil(added * failing)
        plan = math.ceil(failing * max(found.fresh_seeds or 0 for found in answers))
        fresh = commands.Fresh([levels[i].parameters for i in sorted(is_open)], plan)
        # Seeds that are asked for go to those that are too close to call as well.
        close = {r.level for one in primary if one.decision for r in one.decision.open}
        if close - is_open:
            purpose = f"{purpose}, but not what is too close to call"
        have = [primary[0].gains.shape[1]] * len(is_open | close)
    elif unconfirmed:
        purpose = f"would compare {labels.listed(unconfirmed)} as well"
        have = []
    else:
        return None
    found = commands.settle(
        runs,
        by,
        wanted,
        [*have, *(0 for _ in unconfirmed)],
        [level.parameters for level in (levels if by else comparison.ordered)],
        confirmed=is_confirmed,
        fresh=fresh,
        margins=margins,
    )
    return found and found._replace(purpose=purpose + found.purpose)


def _check(comparison: Comparison, metric: str) -> str:
    """Whether the test images say the same."""
    test, validation = comparison.checks[metric], comparison.results[metric]
    by = f" by {test.measure.title}" if len(comparison.checks) > 1 else ""
    found, before = test.findings(), validation.findings()
    first, other = next(iter(found)), next(iter(before))
    if {found[other], before[first]} == {"equal"}:  # whichever of them is ahead by a hair
        found[first], found[other] = "equal", before[other]
    changed = [f"{name} is {_SAID[w]}" for name, w in found.items() if before.get(name) != w]
    if not changed:
        return f"on the test images, which chose nothing, the finding{by} is the same"
    said = f"{first} leads, not {other}" if found[other] in ("worse", "open") else ""
    said = said or labels.listed(changed[:_MOST_NAMED])
    return f"on the test images, which chose nothing, it is otherwise{by}: {said}"
