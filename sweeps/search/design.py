"""What a study says of its comparison, so that whoever reads it comes to the same answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from experiments import membership
from experiments.files import replacing
from sweeps.settings import Settings
from sweeps.space.dimensions import Space
from sweeps.storage.attributes import DESIGN

SCHEMA = 1


def design(
    settings: Settings, space: Space, compare: Sequence[str], *, grid: bool
) -> dict[str, Any]:
    """How a command would compare, as plain values.

    Keys are `compare`, the keys that are compared; `planned`, how many seeds are meant before
    anybody looks, None where one is; and `margins`, by metric, as far as the user set any.
    """
    planned = len(space.seeds) if grid and len(space.seeds) > 1 else None
    if settings.confirm:
        planned = settings.confirm_seeds
    return {
        "schema": SCHEMA,
        "compare": list(compare),
        "planned": planned,
        "margins": dict(settings.margins or {}),
    }


def agreed(study: optuna.Study, wanted: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The design of a study from now on; it is kept in it.

    The number of seeds that was planned first stays: to plan more after looking is what error
    control is for. So does what is compared, and the margins, where this command names none. A
    study of an older version that has trials was planned nobody knows how.

    Args:
        study: under its lock.
        wanted: by the command, see `design`.
        settings: of the command.
    """
    known = study.user_attrs.get(DESIGN)
    found = dict(wanted)
    if isinstance(known, Mapping):
        stays = {"planned": None, "compare": settings.compare, "margins": settings.margins}
        found |= {
            key: known[key] for key, named in stays.items() if named is None and known.get(key)
        }
    elif study.get_trials(deepcopy=False):
        found["planned"] = None
    if known != found:
        study.set_user_attr(DESIGN, found)
    return found


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
