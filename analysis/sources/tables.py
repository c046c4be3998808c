"""From the trials that sources found to the tables that every analysis reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.runs import FINGERPRINT, GROUPS, Runs
from analysis.sources.found import Findings, Found
from experiments.record.identity import is_relevant

Config = Mapping[str, Any]
"""Flat, with hashable values."""

_FIRST = (
    "trial", "source", "sweep", "number", "phase", "status", "reason", "seed", "started",
    "configuration",
)  # fmt: skip
_LAST = (
    "epochs", "steps", "seconds/total", "seconds/fit", "seconds/epoch", "images_per_second",
    "directory", "checkpoint", "wandb",
)  # fmt: skip
_TYPES = {
    **dict.fromkeys(("number", "seed", "epochs", "steps"), "Int64"),
    **{name: "float64" for name in _LAST if name.startswith(("seconds", "images"))},
}
_NOT_COMPARED = {"seed", "objective"}
_HISTORY = ("trial", "epoch", "step")


def runs_of(findings: Findings) -> Runs:
    """The tables of what was found, each trial once."""
    found = _ordered(findings.trials)
    names = _names(found)
    return Runs(
        trials=_trials(names, found),
        history=_history(names, found),
        broken=findings.broken,
        objectives=_objectives(found),
        searched=_searched(findings),
        designs={name: design for (_, name), design in findings.designs.items()},
        varied=tuple(varying([trial.config for trial in found])),
    )


def _ordered(found: Iterable[Found]) -> list[Found]:
    """By sweep, the one that began first before the others, and number; single runs by their time.

    Seeds are looked at in this order, whichever source was named first. Where nobody knows when a
    sweep began, sweeps are in the order found.
    """
    found = list(found)
    began: dict[str | None, list[str]] = {}
    for trial in found:
        began.setdefault(trial.sweep, []).append(_started(trial))
    first = {sweep: min(filter(None, times), default="") for sweep, times in began.items()}
    names = sorted(began, key=lambda sweep: first[sweep]) if all(first.values()) else list(began)
    places = {sweep: i for i, sweep in enumerate(names)}

    def place(trial: Found) -> tuple[int, int, str]:
        is_single = trial.number is None
        return places[trial.sweep], trial.number or 0, _started(trial) if is_single else ""

    return sorted(found, key=place)


def _started(trial: Found) -> str:
    """When, in ISO 8601; empty if nobody knows."""
    return str(trial.row.get("started") or "")


def _names(found: Iterable[Found]) -> list[str]:
    taken: dict[str, int] = {}
    names = []
    for trial in found:
        name = trial.label if trial.number is None else f"{trial.sweep}/{trial.number}"
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return names


def _trials(names: Sequence[str], found: Sequence[Found]) -> pd.DataFrame:
    texts = descriptions([trial.config for trial in found])
    rows = [
        {
            **trial.config,
            **trial.row,
            "trial": name,
            "sweep": trial.sweep,
            "number": trial.number,
            "configuration": text,
        }
        for name, trial, text in zip(names, found, texts, strict=True)
    ]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    between = sorted(
        (key for key in keys if key not in _FIRST + _LAST),
        key=lambda key: ("/" in key, key.startswith("test/")),
    )
    columns = [*_FIRST, *between, *_LAST]
    table = pd.DataFrame.from_records(
        [[row.get(c) for c in columns] for row in rows], columns=columns
    )
    return table.astype(_TYPES).copy()  # in one piece again, which a column more is cheap of


def _history(names: Sequence[str], found: Sequence[Found]) -> pd.DataFrame:
    rows = [
        {**row, "trial": name}
        for name, trial in zip(names, found, strict=True)
        for row in trial.history
    ]
    keys = dict.fromkeys([*_HISTORY, *(key for row in rows for key in row)])
    history = pd.DataFrame.from_records(rows, columns=list(keys))
    values = {key: "Int64" if key in _HISTORY else "float64" for key in keys if key != "trial"}
    return history.astype(values).copy()


def _objectives(found: Sequence[Found]) -> tuple[str, ...]:
    """Those that all have, in the order of the first."""
    named = dict.fromkeys(t.config["objective"] for t in found if "objective" in t.config)
    several = [each if isinstance(each, tuple) else (each,) for each in named]
    return tuple(n for n in several[0] if all(n in each for each in several)) if several else ()


def _searched(findings: Findings) -> tuple[str, ...]:
    """As the source says or, where it does not, what varies within each sweep."""
    sweeps: dict[str | None, list[Found]] = {}
    for trial in findings.trials:
        sweeps.setdefault(trial.sweep, []).append(trial)
    if len(sweeps) > 1:
        sweeps.pop(None, None)  # single runs, beside sweeps
    searched: dict[str, None] = {}
    for sweep, trials in sweeps.items():
        said = findings.searched.get(("", sweep or ""))
        configs = [trial.config for trial in trials]
        known = {key for config in configs for key in config}
        searched |= dict.fromkeys(
            varying(configs) if said is None else (key for key in said if key in known)
        )
    searched.pop(FINGERPRINT, None)
    return tuple(searched)


def varying(configs: Sequence[Config]) -> list[str]:
    """The keys by which configs differ, in the order of the configs.

    Not the seed, not keys that cannot change a result, and not the options that come with a
    choice: where every `ssim` has the same `loss.sigma`, only `loss.name` varies.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if _is_compared(key) and _varies(key, configs)]


def descriptions(configs: Sequence[Config]) -> list[str]:
    """For each config a text that it shares with those that differ in nothing but the seed.

    It begins with the loss and says what else varies among these configs, as a command line
    would: `loss=ssim latent_dim=16 lr=0.0003`.
    """
    keys = list(dict.fromkeys(["loss.name", *varying(configs)]))
    writers = {key: _writer([c[key] for c in configs if key in c]) for key in keys}
    return [
        " ".join(f"{key.removesuffix('.name')}={writers[key](c[key])}" for key in keys if key in c)
        for c in configs
    ]


def _is_compared(key: str) -> bool:
    return is_relevant(key) and key not in _NOT_COMPARED


def _varies(key: str, configs: Sequence[Config]) -> bool:
    values = {config[key] for config in configs if key in config}
    if len(values) < 2:
        return False
    group = key.partition(".")[0]
    choice = f"{group}.name"
    if group not in GROUPS or key == choice:
        return True
    return len({(c.get(choice), c[key]) for c in configs if key in c}) > len(
        {c.get(choice) for c in configs if key in c}
    )


def _writer(values: Sequence[Any]) -> Callable[[Any], str]:
    """Writes values as short as keeps them apart."""
    floats = {value for value in values if isinstance(value, float)}
    for digits in range(3, 17):
        if len({f"{value:.{digits}g}" for value in floats}) == len(floats):
            return lambda value: _text(value, f".{digits}g")
    return lambda value: _text(value, "")


def _text(value: Any, form: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{','.join(_text(item, form) for item in value)}]"
    if isinstance(value, float):
        return format(value, form) if form else repr(value)
    return str(value)
