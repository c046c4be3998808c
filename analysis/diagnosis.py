"""What went wrong in a sweep, and what to type about it: `diagnose`."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis import ranking
from analysis.runs import DEGREE, Runs
from experiments.scoring import symptoms
from experiments.scoring.symptoms import Symptom

FAILED = "failures"
NOTHING_LEFT = "nothing completed"
LR_EDGE = "lr at the edge"
LATENT_EDGE = "latent_dim at the edge"

_ORDER = (
    NOTHING_LEFT, FAILED, symptoms.COLLAPSE, symptoms.NOTHING_LEARNED, symptoms.UNSTABLE,
    symptoms.SATURATED, LR_EDGE, LATENT_EDGE, symptoms.IDLE, symptoms.SHORT,
)  # fmt: skip
_AT_EDGE = 0.1  # of the range searched, in logarithms
_LARGEST = "is the largest that was tried, and all of it is in use"
_LEAST_VALUES = 3  # of a parameter; of two values one is always at an edge
_REMEDIES = (
    ("NaN or infinite", "a smaller lr, optimizer.gradient_clip=2 or trainer.precision=32-true"),
    ("out of memory", "a smaller batch_size or model.width, or fewer hydra.sweeper.n_jobs"),
    ("OutOfMemory", "a smaller batch_size or model.width, or fewer hydra.sweeper.n_jobs"),
    ("worker died", "fewer hydra.sweeper.n_jobs if memory ran out; then sweep.retry_failed=true"),
    ("No space left", "make room, then sweep.retry_failed=true"),
)
_GROUP = (("loss", "loss.name"), ("loss.scale", "loss.scale"), (DEGREE, DEGREE))
_Group = tuple[tuple[str, str], ...]
"""Keys and values of overrides that a group of trials shares."""
_Seen = tuple[Mapping[Any, Any], Sequence[Symptom]]
"""A completed trial and what is wrong with it."""
_MOST_ALIKE = 4
"""Findings of one kind and remedy; more become one."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a sweep.

    Attributes:
        kind: a name of `experiments.scoring.symptoms` or of this module.
        what: what is wrong, in a sentence.
        trials: which are concerned.
        evidence: the numbers that show it, of the first or the most telling trial.
        remedy: overrides of `run.py`, or what to do.
    """

    kind: str
    what: str
    trials: tuple[str, ...]
    evidence: str
    remedy: str


def diagnose(runs: Runs) -> list[Finding]:
    """What went wrong, the gravest first; empty if nothing is known to have.

    What a column or a history would show is not said where it is missing.
    """
    if runs.trials.empty:
        return []
    seen = [(row, _of_trial(row, of, runs.objective)) for row, of in _completed(runs)]
    found = [
        *_nothing_completed(runs),
        *_failures(runs.trials),
        *_symptoms(runs, seen),
        *_lr_at_an_edge(runs, seen),
        *_latent_at_an_edge(runs, seen),
    ]
    return sorted(found, key=lambda finding: _ORDER.index(finding.kind))


def _nothing_completed(runs: Runs) -> Iterator[Finding]:
    counts = runs.trials["status"].value_counts()
    if "completed" in counts or "pruned" not in counts:
        return
    yield Finding(
        NOTHING_LEFT,
        "every trial was pruned or failed, so that nothing was trained to its end",
        tuple(runs.trials.loc[runs.trials["status"].isin(["pruned", "failed"]), "trial"]),
        f"{counts['pruned']} pruned, {counts.get('failed', 0)} failed",
        "hydra/sweeper/pruner=none, or one that waits longer: hydra/sweeper/pruner=patient",
    )


def _failures(trials: pd.DataFrame) -> Iterator[Finding]:
    """One for each reason; numbers in it do not tell reasons apart."""
    groups: dict[str, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in trials[trials["status"] == "failed"].to_dict("records"):
        groups[re.sub(r"\d+", "#", _first_line(row.get("reason")))].append(row)
    for rows in sorted(groups.values(), key=len, reverse=True):
        reason = _first_line(rows[0].get("reason"))
        remedies = (remedy for text, remedy in _REMEDIES if text in str(rows[0].get("reason")))
        yield Finding(
            FAILED,
            f"{_count(len(rows), len(trials))} failed: {reason}",
            tuple(str(row["trial"]) for row in rows),
            f"{rows[0]['trial']}{_settings(rows[0])}: {reason}",
            next(remedies, "see the trial's run.log; then sweep.retry_failed=true"),
        )


def _symptoms(runs: Runs, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Those of single trials, together for each loss and scale, or for many at once.

    Of the seeds of one configuration only the gravest kind is said, besides idle units, so that no
    two remedies for the same settings contradict each other.
    """
    found: dict[str, dict[str, dict[_Group, list[tuple[str, Symptom]]]]] = {}
    counts: dict[_Group, int] = defaultdict(int)
    several = DEGREE in runs.trials and runs.trials[DEGREE].nunique() > 1
    named = [pair for pair in _GROUP if several or pair[1] != DEGREE]
    gravest = _gravest(seen)
    for row, its_own in seen:
        group = tuple((k, str(row[column])) for k, column in named if pd.notna(row.get(column)))
        counts[group] += 1
        for symptom in its_own:
            if symptom.kind not in (gravest.get(_configuration(row)), symptoms.IDLE):
                continue
            alike = found.setdefault(symptom.kind, {}).setdefault(symptom.remedy, {})
            alike.setdefault(group, []).append((str(row["trial"]), symptom))
    for kind, remedies in found.items():
        # The trials of each finding, by the group.
        together = [
            part
            for groups in remedies.values()
            for part in (
                [groups] if len(groups) > _MOST_ALIKE else [{g: r} for g, r in groups.items()]
            )
        ]
        if len(together) > _MOST_ALIKE:
            names = dict.fromkeys(group for part in together for group in part)
            merged = {g: [row for part in together for row in part.get(g, [])] for g in names}
            together = [merged]
        for part in together:
            rows = [row for of_group in part.values() for row in of_group]
            trial, symptom = rows[0]
            is_one = len({symptom.remedy for _, symptom in rows}) == 1
            yield Finding(
                kind,
                f"{kind} in {_count(len(rows), sum(counts[g] for g in part))}"
                f"{_of_groups(list(part))}",
                tuple(name for name, _ in rows),
                f"{trial}: {symptom.evidence}",
                symptom.remedy if is_one else f"of this trial: {symptom.remedy}",
            )


def _gravest(seen: Sequence[_Seen]) -> dict[str, str]:
    """By configuration, the gravest kind that a trial of it shows, but for idle units."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row, its_own in seen:
        kinds[_configuration(row)] |= {symptom.kind for symptom in its_own} - {symptoms.IDLE}
    return {name: min(some, key=_ORDER.index) for name, some in kinds.items() if some}


def _configuration(row: Mapping[Any, Any]) -> str:
    return str(row.get("configuration", row["trial"]))


def _of_groups(groups: Sequence[_Group]) -> str:
    """« of loss=ssim loss.scale=mean», or « of 12 losses at loss.scale=mean»."""
    common = " ".join(f"{k}={v}" for k, v in groups[0] if all((k, v) in group for group in groups))
    if len(groups) == 1:
        return f" of {common}" if common else ""
    losses = {group[:1] for group in groups}
    what = "losses" if len(losses) == len(groups) else "losses and scales"
    return f" of {len(groups)} {what}" + (f" at {common}" if common else "")


def _of_trial(
    row: Mapping[Any, Any], history: Sequence[Mapping[Any, Any]], objective: str
) -> list[Symptom]:
    known = {str(key): value for key, value in row.items() if pd.notna(value)}
    metrics = {k.removeprefix("val/"): v for k, v in known.items() if k.startswith("val/")}
    found = symptoms.symptoms(
        known, metrics, history, objective=objective, epochs=known.get("epochs")
    )
    collapse = [symptom for symptom in found if symptom.kind == symptoms.COLLAPSE]
    return collapse or found  # whatever else such a trial shows comes of it


def _completed(runs: Runs) -> Iterator[tuple[Mapping[Any, Any], Sequence[Mapping[Any, Any]]]]:
    histories: dict[str, list[dict[Any, Any]]] = {}
    if not runs.history.empty:
        ordered = runs.history.sort_values("epoch")
        histories = {str(name): rows.to_dict("records") for name, rows in ordered.groupby("trial")}
    for row in runs.trials[runs.trials["status"] == "completed"].to_dict("records"):
        yield row, histories.get(row["trial"], [])


def _lr_at_an_edge(runs: Runs, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Of each loss whose best trial has the lowest or highest learning rate searched.

    A higher one is not proposed for what a lower one would mend.
    """
    too_high = {
        _configuration(row)
        for row, its_own in seen
        if {symptom.kind for symptom in its_own} & {symptoms.UNSTABLE, symptoms.SATURATED}
    }
    for loss, best, tried in _bests(runs, "lr", seen):
        if tried.nunique() < _LEAST_VALUES or tried.min() <= 0:
            continue
        low, high, lr = float(tried.min()), float(tried.max()), float(best["lr"])
        position = math.log(lr / low) / math.log(high / low)
        is_high = position > 0.5
        if _AT_EDGE < position < 1 - _AT_EDGE or (is_high and _configuration(best) in too_high):
            continue
        wider = (lr / 3, lr * 10) if is_high else (lr / 10, lr * 3)
        yield Finding(
            LR_EDGE,
            f"the best learning rate{loss} is among the {'highest' if is_high else 'lowest'} that "
            "were tried",
            (str(best["trial"]),),
            f"lr={lr:.3g} of {low:.3g} to {high:.3g}, {_reached(runs, best)}",
            f"'lr=tag(log,interval({wider[0]:.1g},{wider[1]:.1g}))'",
        )


def _latent_at_an_edge(runs: Runs, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Of each loss that is best at the largest latent size and has every unit of it in use."""
    found: list[Finding] = []
    for loss, best, sizes in _bests(runs, "latent_dim", seen):
        size, active = int(best["latent_dim"]), best.get("val/active_units", 0)
        if sizes.nunique() < 2 or size < sizes.max() or not active >= size:
            continue
        found.append(
            Finding(
                LATENT_EDGE,
                f"the best latent size{loss} {_LARGEST}",
                (str(best["trial"]),),
                f"latent_dim={size}, {active:.0f} units active, {_reached(runs, best)}",
                f"latent_dim={size},{2 * size},{4 * size}",
            )
        )
    if len(found) <= _MOST_ALIKE:
        yield from found
        return
    trials = tuple(trial for one in found for trial in one.trials)
    what = f"the best latent size of {len(found)} losses {_LARGEST}"
    yield replace(found[0], what=what, trials=trials)


def _bests(
    runs: Runs, parameter: str, seen: Sequence[_Seen]
) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """Of each loss what to call it in a sentence, its best trial, and the values it tried.

    Of one whose best trial has learned nothing no value is the best.
    """
    idle = {symptoms.COLLAPSE, symptoms.NOTHING_LEARNED}
    vain = {str(row["trial"]) for row, its_own in seen if idle & {one.kind for one in its_own}}
    if parameter not in runs.searched or parameter not in runs.trials:
        return
    losses = [("", runs.trials)]
    if "loss.name" in runs.trials and runs.trials["loss.name"].nunique() > 1:
        losses = [(f" of loss={name}", rows) for name, rows in runs.trials.groupby("loss.name")]
    for loss, rows in losses:
        best = ranking.best(rows, [runs.objective])
        if best is not None and str(best["trial"]) not in vain:
            yield loss, best, pd.to_numeric(rows[parameter], errors="coerce").dropna()


def _reached(runs: Runs, trial: pd.Series) -> str:
    column = f"val/{runs.objective}"
    return f"{column} {trial[column]:.4g}"


def _count(some: int, of: int) -> str:
    return f"{some} of {of} trial{'' if of == 1 else 's'}"


def _settings(row: Mapping[Any, Any]) -> str:
    text = row.get("configuration")
    return f" ({text})" if pd.notna(text) and text else ""


def _first_line(reason: Any) -> str:
    lines = str(reason).strip().splitlines() if pd.notna(reason) else []
    return lines[0] if lines else "for no known reason"
