"""From the trials to what there is to say of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from analysis import labels
from analysis.comparison import Comparison, checked
from analysis.diagnosis import diagnose
from analysis.report.commands import commands
from analysis.report.comparing import details, estimates_table, home_chapter, rate_chapter
from analysis.report.content import STATUSES, Chapter, Command, Content
from analysis.report.plots import decision_plots, model_plots, search_plots
from analysis.report.trials import ranked, trial_table
from analysis.runs import Runs

log = logging.getLogger(__name__)


def gather(
    runs: Runs, sources: Sequence[str], base: Path, margins: Mapping[str, float] | None = None
) -> Content:
    """Everything the report says.

    Args:
        runs: to report.
        sources: from which they were loaded, as they were given.
        base: the folder that the report will lie in, from which its links start.
        margins: by metric, below which a difference does not matter.
    """
    counts = runs.trials["status"].value_counts()
    statuses = [(status, int(counts[status])) for status in STATUSES if status in counts]
    comparison, scores = checked(runs, margins=margins)
    by, settling = comparison.by, comparison.settling
    levels = [(level.name, level.own[0]) for level in comparison.ordered]
    log.info("drawing figures")
    rate, vary_beta = rate_chapter(runs, by, margins)
    chapters = [
        Chapter("models", "What they make", plots=model_plots(runs, levels)),
        home_chapter(comparison, scores),
        rate,
        Chapter("search", "The search", plots=search_plots(runs, by)),
    ]
    to_run = commands(runs, sources, comparison.recommended, margins)
    if settling is not None:
        purpose = f"train what {settling.purpose}, {settling.cost}"
        to_run.insert(0, Command(purpose, settling.command))
    if vary_beta is not None:
        to_run.append(Command("compare the losses at the same KL", vary_beta))
    now = datetime.now().astimezone()
    order = ranked(runs)
    return Content(
        title=_title(runs),
        subtitle=f"{_states(statuses)} · {now.day} {now:%B %Y}",
        verdict=comparison.verdict,
        facts=_facts(runs, comparison),
        estimates=estimates_table(comparison),
        effects=decision_plots(comparison),
        levels=levels,
        details=details(comparison),
        findings=diagnose(runs),
        notes=comparison.notes,
        chapters=[one for one in chapters if one is not None and (one.plots or one.sentences)],
        trials=trial_table(runs, base),
        statuses=statuses,
        broken=runs.broken,
        commands=to_run,
        pictured=list(zip(order["trial"], order["directory"], strict=True)),
        recommended=comparison.recommended,
        made=f"Made by vaesweep on {now:%Y-%m-%d at %H:%M %Z}",
    )


def _title(runs: Runs) -> str:
    names = [str(name) for name in runs.trials["sweep"].dropna().unique()]
    names = names or list(runs.trials["trial"])
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
    if not comparison.results:
        return []
    seeds = sorted({count for one in comparison.primary for count in one.seeds})
    plan = f" ({comparison.planned} planned)" if comparison.planned else ""
    decided = [one.measure for one in comparison.primary]
    margins = [f"{one.title} {one.said_margin}" for one in decided]
    facts = [
        ("decided by", labels.listed([one.title for one in decided])),
        ("seeds of each", " to ".join(map(str, {seeds[0]: 0, seeds[-1]: 0})) + plan),
        ("practically equal within", labels.listed(margins)),
        ("data", _data(runs)),
    ]
    return [(name, text) for name, text in facts if text]


def _data(runs: Runs) -> str:
    """«cats, 64 x 64 pixels», where all trials saw the same."""
    rows = runs.trials.reindex(columns=["data.name", "data.size"]).dropna().drop_duplicates()
    if len(rows) != 1:
        return ""
    name, size = rows.iloc[0]
    return f"{name}, {size} x {size} pixels"
