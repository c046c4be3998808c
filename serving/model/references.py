"""Where a checkpoint is, from what a person calls it."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.metrics import METRICS, direction
from experiments.record import RESULT, read_result
from experiments.record.membership import (
    DESIGN,
    is_foreign,
    membership,
    owner,
    read_object,
    recommended,
    records_below,
)
from serving.model.best import Candidate, best

KINDS = (
    "a .ckpt file, the directory of a trial or a sweep, a study (sqlite:///study.db#NAME) or a "
    "W&B artifact (wandb:ENTITY/PROJECT/NAME:ALIAS)"
)
"""What a reference to a checkpoint can be."""
_DEFAULT = "checkpoints/best.ckpt"
_MOST_DIRECTORIES = 50_000  # of a sweep

log = logging.getLogger(__name__)


def find_checkpoint(reference: str) -> Path:
    """The checkpoint that a reference names.

    A sweep and a study mean the trial that they recommend (see `serving.model.best`).

    Args:
        reference: path of a checkpoint, of a trial's or of a sweep's directory; `URL#NAME` of an
            Optuna study, whose trials' directories must be on this machine; or
            `wandb:ENTITY/PROJECT/NAME:ALIAS`, which is downloaded.

    Raises:
        UserError: there is no such thing, or it holds no checkpoint.
    """
    if not reference.strip():
        raise UserError(f"`--checkpoint` must name {KINDS}, but it is empty")
    if reference.startswith("wandb:"):
        from serving.model.artifacts import download

        return download(reference.removeprefix("wandb:"))
    if "://" in reference:
        from serving.model.studies import best_directory

        return _of_trial(best_directory(reference))
    path = Path(reference).expanduser()
    if path.is_dir():
        return _of_trial(path if (path / RESULT).exists() else _best_of_sweep(path))
    if not path.exists():
        raise UserError(f"`--checkpoint` must name {KINDS}, but there is no {reference}")
    return path


def _of_trial(directory: Path) -> Path:
    result = read_result(directory)
    named = result.get("checkpoint") or _DEFAULT
    path = directory / named if isinstance(named, str) else directory
    if ".." in path.parts or not path.is_relative_to(directory):
        raise UserError(
            f"the checkpoint of a record must be in the record, but that of {directory} is {path}; "
            "name the .ckpt file if you mean it"
        )
    if not path.is_file():
        raise UserError(
            f"a trial must have a checkpoint to be used, but {directory} has none; it is "
            f"{result.get('status')!s:.40}"
        )
    return path


def _best_of_sweep(directory: Path) -> Path:
    found = list(records_below(directory, most=_MOST_DIRECTORIES))
    if not found:
        raise UserError(
            f"`--checkpoint` must name {KINDS}, but {directory} holds no trial's {RESULT}"
        )
    candidates = list(_candidates(found))
    if not candidates:
        raise UserError(
            f"a sweep must have a completed trial to be used, but none of the {len(found)} in "
            f"{directory} is"
        )
    return best(candidates, str(directory)).directory


def _candidates(directories: Iterable[Path]) -> Iterator[Candidate]:
    for directory in directories:
        try:
            result = read_result(directory)
            if is_foreign(result, _above(owner, directory)):
                raise UserError(f"{directory} holds the record of {membership(result)}")
            if result.get("status") != "completed":
                continue
            name, value = _objective(result, directory)
        except UserError as error:
            log.warning("left out: %s", error)
            continue
        known = membership(result)
        use = recommended(_above(lambda parent: read_object(parent / DESIGN), directory))
        yield Candidate(
            directory=directory,
            objective=name,
            value=value,
            maximize=direction(name) == "maximize",
            recommended=known is not None and known.trial in use,
        )


def _objective(result: Mapping[str, Any], directory: Path) -> tuple[str, float]:
    """Name and value of the first objective.

    Raises:
        UserError: it is no metric that is known here, or has no value.
    """
    objective = result.get("objective")
    first: list[Any] = []
    for key in ("names", "values"):
        values = objective.get(key) if isinstance(objective, dict) else None
        first.append(values[0] if isinstance(values, list) and values else None)
    name, value = first
    if not isinstance(name, str) or name not in METRICS or not isinstance(value, int | float):
        raise UserError(
            f"the objective of a completed trial must be a metric with its value, but that of "
            f"{directory} is {reprlib.repr(objective)}"
        )
    return name, float(value)


def _above(read: Callable[[Path], dict[str, Any] | None], directory: Path) -> dict[str, Any] | None:
    """What is read in the nearest folder above that has it: that of the sweep."""
    return next(filter(None, map(read, directory.parents)), None)
