"""From the trials to what there is to say of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import labels
from analysis.report.commands import Command, commands
from analysis.report.comparing import details, estimates_table
from analysis.report.content import STATUSES, Chapter, Content
from analysis.report.grounds import home_chapter, rate_chapter
from analysis.report.models import model_plots
from analysis.report.plots import search_plots
from analysis.report.trials import ranked, trial_table
from analysis.runs import Runs

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from analysis.scores import Scores

log = logging.getLogger(__name__)

_MOST_GROUPS = 16
_LOSS = ("loss.name", "loss.scale", "loss.degree")


def gather(runs: Runs, sources: Sequence[str], base: Path) -> Content:
    """Everything the report says.

    Args:
        runs: to report.
        sources: from which they were loaded, as they were given.
        base: the folder that the report will lie in, from which its links start.
    """
    counts = runs.trials["status"].value_counts()
    statuses = [(status, int(counts[status])) for status in STATUSES if status in counts]
    from analysis.diagnosis import diagnose

    by = groups_of(runs)
    compared = compare_on_test(runs, by)
    comparison = compared.comparison
    log.info("drawing figures")
    rate, vary_beta = rate_chapter(runs, by)
    chapters = [
        Chapter("models", "What they make", plots=model_plots(runs, comparison)),
        home_chapter(comparison, compared.scores),
        rate,
        Chapter("search", "The search", plots=search_plots(runs, by)),
    ]
    to_run = commands(runs, sources)
    if vary_beta is not None:
        to_run.append(Command("compare the losses at the same KL", vary_beta))
    now = datetime.now().astimezone()
    order = ranked(runs)
    return Content(
        title=_title(runs),
        subtitle=f"{_states(statuses)} · {now.day} {now:%B %Y}",
        verdict=comparison.verdict,
        facts=_facts(runs, comparison),
        estimates=estimates_table(comparison, by),
        details=details(comparison) if len(comparison.chosen) else (),
        findings=diagnose(runs),
        notes=comparison.notes,
        chapters=[one for one in chapters if one is not None and (one.plots or one.sentences)],
        trials=trial_table(runs, base),
        statuses=statuses,
        broken=runs.broken,
        commands=to_run,
        pictured=list(zip(order["trial"], order["directory"], strict=True)) if len(order) else [],
        made=f"Made by vaesweep on {now:%Y-%m-%d at %H:%M %Z}",
    )


@dataclass(frozen=True)
class Compared:
    """A comparison, and the scores of single images that it rests on, if there are any."""

    comparison: Comparison
    scores: Scores | None


def compare_on_test(runs: Runs, by: Sequence[str]) -> Compared:
    """The comparison on the test split, of which only the chosen trials are scored.

    Where none of them can be scored, since their checkpoints or images are not here, it is that of
    the metrics that the runs hold.
    """
    from analysis.choosing import choose
    from analysis.comparison import compare
    from analysis.scores import score

    trials = [trial for one in choose(runs, by=by)[0] for trial in one.trials]
    if not trials:
        return Compared(compare(runs, by=by), None)
    log.info("scoring %d trials on the test split", len(trials))
    scores = score(runs, trials)
    if scores.values:
        return Compared(compare(runs, scores, by=by), scores)
    comparison = compare(runs, by=by)
    why = f"the test split is not scored: {scores.missing[0].reason}"
    return Compared(replace(comparison, notes=[why, *comparison.notes]), None)


def groups_of(runs: Runs) -> tuple[str, ...]:
    """The columns whose values are compared: the loss and how it is scaled, as far as that varies.

    Where they do not, the first parameter that was searched by a few choices.
    """
    losses = tuple(name for name in _LOSS if _choices(runs, name) > 1)
    if losses:
        return losses
    others = (name for name in runs.searched if 1 < _choices(runs, name) <= _MOST_GROUPS)
    return (next(others, "loss.name"),)


def _choices(runs: Runs, name: str) -> int:
    return int(runs.trials[name].nunique()) if name in runs.trials else 0


def _title(runs: Runs) -> str:
    names = list(dict.fromkeys(runs.trials["sweep"].dropna().astype(str)))
    if not names:
        names = list(runs.trials["trial"].astype(str))
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return ", ".join(names) or "no trials"


def _states(statuses: Sequence[tuple[str, int]]) -> str:
    total = sum(count for _, count in statuses)
    if len(statuses) == 1:
        return f"{total} {statuses[0][0]} trial{'' if total == 1 else 's'}"
    parts = ", ".join(f"{count} {status}" for status, count in statuses)
    return f"{total} trials: {parts}" if total else "no trials"


def _facts(runs: Runs, comparison: Comparison) -> list[tuple[str, str]]:
    """What the verdict rests on."""
    estimates = comparison.estimates
    if estimates.empty:
        return []
    split = {"test": "test", "val": "validation"}.get(comparison.split, comparison.split)
    images = int(estimates["images"].max())
    seeds = sorted({len(trials) for trials in comparison.chosen["trials"]})
    facts = [
        ("compared on", f"{split} split, {images:,} images" if images else f"{split} split"),
        ("seeds of each", " to ".join(map(str, {seeds[0]: 0, seeds[-1]: 0}))),
        ("chosen by", labels.listed([labels.title(name) for name in runs.objectives])),
        ("data", _data(runs)),
    ]
    return [(name, text) for name, text in facts if text]


def _data(runs: Runs) -> str:
    """«cats, 64 x 64»."""
    columns = [name for name in ("data.name", "data.size") if name in runs.trials]
    rows = runs.trials[columns].dropna().drop_duplicates()
    if len(columns) < 2 or len(rows) != 1:
        return ""
    name, size = rows.iloc[0]
    return f"{name}, {size} x {size} pixels"
