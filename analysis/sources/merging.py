"""The same trial found in several sources is one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from analysis.runs import CONFIRM
from analysis.sources.found import Findings, Found
from experiments.record.identity import is_relevant

_Key = tuple[Any, ...]
_relevant = cache(is_relevant)


def merged(sources: Iterable[Findings]) -> Findings:
    """What all sources hold, each trial once.

    Two sources speak of the same trial if both name the same W&B run, or the same number of a
    sweep of the same name, and agree on its config, seed and images as far as both know them.
    Where trials of one number do not agree, the two sweeps only share their name, and the later
    one is numbered: `cats (2)`.

    Args:
        sources: those whose word counts most come first: records, studies, W&B. But a record that
            says "running" may be that of a killed process, so there the others are believed.
    """
    together = Findings()
    index: dict[_Key, Found] = {}
    for findings in sources:
        together.broken += findings.broken
        origins: dict[str, list[Found]] = {}
        for trial in findings.trials:
            origins.setdefault(trial.origin, []).append(trial)
        for origin, trials in origins.items():
            renamed = _renamed(trials, index)
            for (where, name), columns in findings.searched.items():
                if where == origin:
                    together.searched["", renamed.get(name, name)] = columns
            for (where, name), design in findings.designs.items():
                if where == origin:
                    together.designs["", renamed.get(name, name)] = design
            for trial in trials:
                same = (index[key] for key in _keys(trial) if key in index)
                known = next((one for one in same if _agree(one, trial)), None)
                if known is not None:
                    _fuse(known, trial)
                    continue
                together.trials.append(trial)
                for key in _keys(trial):
                    index.setdefault(key, trial)
    return together


def _keys(trial: Found) -> list[_Key]:
    """By what the same trial is known in another source, the surest first."""
    own: _Key = (trial.label,) if trial.number is None else (trial.sweep, trial.number)
    return [own] if trial.run is None else [("W&B", trial.run), own]


def _renamed(trials: Sequence[Found], index: Mapping[_Key, Found]) -> dict[str, str]:
    """New names for sweeps that are others than those of the same name; given to their trials."""
    names: dict[str, str] = {}
    for sweep in dict.fromkeys(trial.sweep for trial in trials if trial.sweep is not None):
        own = [trial for trial in trials if trial.sweep == sweep]
        count = 1
        while any(
            trial.number is not None and not _agree(index.get((trial.sweep, trial.number)), trial)
            for trial in own
        ):
            count += 1
            names[sweep] = f"{sweep} ({count})"
            for trial in own:
                trial.sweep = names[sweep]
    return names


def _agree(known: Found | None, trial: Found) -> bool:
    """Whether nothing that both say is against their being one trial."""
    return known is None or all(
        known.config[key] == trial.config[key]
        for key in known.config.keys() & trial.config.keys()
        if _relevant(key)
    )


def _fuse(known: Found, other: Found) -> None:
    """Add what the other source says to what is known."""
    if known.row.get("status") == "running":
        known.row |= {"status": other.row["status"], "reason": other.row.get("reason")}
    if other.row.get("phase") == CONFIRM:
        known.row["phase"] = CONFIRM
    known.row = other.row | {key: v for key, v in known.row.items() if v is not None}
    known.config = other.config | known.config
    known.history = known.history or other.history
    known.run = known.run or other.run
