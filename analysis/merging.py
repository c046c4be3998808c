"""The same trial found in several sources is one row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from analysis.found import CONFIRM, Findings, Found
from experiments.identity import is_relevant

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
    index = _Index()
    for findings in sources:
        together.broken += findings.broken
        for trials in _by_origin(findings.trials):
            renamed = _renamed(trials, index)
            together.searched |= {
                renamed.get(sweep, sweep): columns for sweep, columns in findings.searched.items()
            }
            together.designs |= {
                renamed.get(sweep, sweep): design for sweep, design in findings.designs.items()
            }
            for trial in trials:
                known = index.find(trial)
                if known is None:
                    together.trials.append(trial)
                    index.add(trial)
                else:
                    _fuse(known, trial)
    return together


class _Index:
    def __init__(self) -> None:
        self._by_number: dict[tuple[str, int], Found] = {}
        self._by_run: dict[str, Found] = {}
        self._by_label: dict[str, Found] = {}

    def add(self, trial: Found) -> None:
        """Let it be found again."""
        if trial.run is not None:
            self._by_run.setdefault(trial.run, trial)
        if trial.sweep is not None and trial.number is not None:
            self._by_number.setdefault((trial.sweep, trial.number), trial)
        else:
            self._by_label.setdefault(trial.label, trial)

    def numbered_alike(self, trial: Found) -> Found | None:
        """The trial of that number of a sweep of that name."""
        if trial.sweep is None or trial.number is None:
            return None
        return self._by_number.get((trial.sweep, trial.number))

    def find(self, trial: Found) -> Found | None:
        """The same trial."""
        by_run = self._by_run.get(trial.run) if trial.run is not None else None
        by_label = self._by_label.get(trial.label) if trial.number is None else None
        for known in (by_run, self.numbered_alike(trial), by_label):
            if known is not None and _agree(known, trial):
                return known
        return None


def _by_origin(trials: Iterable[Found]) -> list[list[Found]]:
    origins: dict[str, list[Found]] = {}
    for trial in trials:
        origins.setdefault(trial.origin, []).append(trial)
    return list(origins.values())


def _renamed(trials: Iterable[Found], index: _Index) -> dict[str, str]:
    """New names for sweeps that are others than those of the same name; given to their trials."""
    trials = list(trials)
    names: dict[str, str] = {}
    for sweep in dict.fromkeys(trial.sweep for trial in trials if trial.sweep is not None):
        own = [trial for trial in trials if trial.sweep == sweep]
        count = 1
        while any(
            known is not None and not _agree(known, trial)
            for trial in own
            for known in [index.numbered_alike(trial)]
        ):
            count += 1
            names[sweep] = f"{sweep} ({count})"
            for trial in own:
                trial.sweep = names[sweep]
    return names


def _agree(first: Found, second: Found) -> bool:
    return all(
        first.config[key] == second.config[key]
        for key in first.config.keys() & second.config.keys()
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
