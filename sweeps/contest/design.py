"""What a study says of its comparison, so that whoever reads it comes to the same answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from experiments.errors import UserError
from experiments.record import membership
from experiments.record.files import replacing
from sweeps.contest.levels import choices_of
from sweeps.settings import Settings
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.storage.attributes import DESIGN, is_confirmation

SCHEMA = 1


def design(
    settings: Settings,
    space: Space,
    compare: Sequence[str],
    levels: Sequence[str],
    *,
    grid: bool,
) -> dict[str, Any]:
    """How a command would compare, as plain values.

    Keys are `compare`, the keys that are compared; `levels`, those of them whose values are each
    searched and confirmed for themselves; `planned`, how many seeds are meant before
    anybody looks, None where one is; `margins`, by metric, as far as the user set any; and
    `trials`, how many there are to be before anything is confirmed.
    """
    planned = len(space.seeds) if grid and len(space.seeds) > 1 else None
    if settings.confirm:
        planned = settings.confirm_seeds
    sizes = [n for n in (settings.n_trials,) if n is not None and not grid]
    sizes += [Grid(space).size] if space.is_finite else []
    return {
        "schema": SCHEMA,
        "compare": list(compare),
        "levels": list(levels),
        "planned": planned,
        "margins": dict(settings.margins or {}),
        "trials": min(sizes) if sizes else None,
    }


def agreed(
    study: optuna.Study, wanted: Mapping[str, Any], settings: Settings, space: Space
) -> dict[str, Any]:
    """The design of a study from now on; it is kept in it.

    The number of seeds that was planned first stays: to plan more after looking is what error
    control is for. But the seeds of a confirmation are fresh, and nobody has looked at them before
    there are any: theirs is planned by the command that is the first to confirm. What is compared
    and the margins stay where this command names none. A study of an older version that has trials
    was planned nobody knows how.

    Args:
        study: under its lock.
        wanted: by the command, see `design`.
        settings: of the command.
        space: that it searches.

    Raises:
        UserError: the study searches other levels, and the command does not say that it means to
            search those that it would by itself.
    """
    known = study.user_attrs.get(DESIGN)
    found = dict(wanted)
    trials = study.get_trials(deepcopy=False)
    is_planned_now = bool(settings.confirm) and not any(map(is_confirmation, trials))
    if isinstance(known, Mapping):
        _refuse_other_levels(known.get("levels"), wanted, settings, space)
        stays: dict[str, object] = {"compare": settings.compare, "margins": settings.margins}
        if not is_planned_now:
            stays["planned"] = None
        found |= {
            key: known[key]
            for key, named in stays.items()
            if named is None and (known.get(key) or (key == "planned" and key in known))
        }
    elif trials and not is_planned_now:
        found["planned"] = None
    if known != found:
        study.set_user_attr(DESIGN, found)
    return found


def _refuse_other_levels(
    levels: Sequence[str] | None, wanted: Mapping[str, Any], settings: Settings, space: Space
) -> None:
    if settings.compare is not None or not levels or list(levels) == wanted["levels"]:
        return
    if set(levels) <= set(choices_of(space)):
        keys = ",".join(levels)
        raise UserError(
            "a sweep that goes on must search the same levels, but the study compares "
            f"{', '.join(levels)} and this command {', '.join(wanted['levels']) or 'nothing'}; "
            f"add 'sweep.compare=[{keys}]', or name=... for a study of its own"
        )


def recommend(
    study: optuna.Study, directory: Path, found: Mapping[str, Any], trials: Sequence[int]
) -> None:
    """Keep which trials are of what the answer recommends, for whoever uses their weights.

    Args:
        study: that has ended.
        directory: of the sweep.
        found: the design.
        trials: their numbers; with none, nothing changes.

    Raises:
        OSError: the file cannot be written.
    """
    if trials:
        known = {**found, "use": list(trials)}
        study.set_user_attr(DESIGN, known)
        write(directory, known)


def write(directory: Path, found: Mapping[str, Any]) -> None:
    """Keep a design beside the records of its sweep.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(directory / membership.DESIGN, durable=False) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")
