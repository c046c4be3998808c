"""Where a checkpoint is, from what a person calls it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.metrics import direction
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
from serving.model.ranking import Candidate, best

KINDS = (
    "a .ckpt file, the directory of a trial or a sweep, a study (sqlite:///study.db#NAME) or a "
    "W&B artifact (wandb:ENTITY/PROJECT/NAME:ALIAS)"
)
"""What a reference to a checkpoint can be."""
_DEFAULT = "checkpoints/best.ckpt"

log = logging.getLogger(__name__)


def find_checkpoint(reference: str) -> Path:
    """The checkpoint that a reference names.

    A sweep and a study mean their best trial. It is of the configuration that the sweep's answer
    recommends or, where there is none, of that with the best mean of the objective over its seeds
    (those trained with several seeds stand above those with one). With several objectives, the
    configuration of the Pareto front whose places in the single ones are best on average.

    Args:
        reference: path of a checkpoint, of a trial's or of a sweep's directory; `URL#NAME` of an
            Optuna study, whose trials' directories must be on this machine; or
            `wandb:ENTITY/PROJECT/NAME:ALIAS`, which is downloaded.

    Raises:
        UserError: there is no such thing, or it holds no checkpoint.
    """
    if reference.startswith("wandb:"):
        from serving.model.artifacts import download

        return download(reference.removeprefix("wandb:"))
    if "://" in reference:
        from serving.model.studies import best_directory

        return _of_trial(best_directory(reference))
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"`--checkpoint` must name {KINDS}, but there is no {reference}")
    return _of_trial(path if (path / RESULT).exists() else _best_of_sweep(path))


def _of_trial(directory: Path) -> Path:
    result = read_result(directory)
    path = directory / str(result.get("checkpoint") or _DEFAULT)
    if ".." in path.parts or not path.is_relative_to(directory):
        raise UserError(
            f"the checkpoint of a record must be in the record, but that of {directory} is {path}; "
            "name the .ckpt file if you mean it"
        )
    if not path.is_file():
        raise UserError(
            f"a trial must have a checkpoint to be used, but {directory} has none; it is "
            f"{result.get('status')}"
        )
    return path


def _best_of_sweep(directory: Path) -> Path:
    found = list(records_below(directory))
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
    if len({candidate.objectives for candidate in candidates}) > 1:
        raise UserError(
            f"the best of several trials is by one objective, but those in {directory} have "
            "different ones; name the directory of one trial"
        )
    chosen = best(candidates)
    log.info("best of %d trials: %s", len(candidates), chosen)
    return Path(chosen.directory)


def _candidates(directories: Iterable[Path]) -> Iterable[Candidate]:
    for directory in directories:
        try:
            result = read_result(directory)
        except UserError as error:
            log.warning("left out: %s", error)
            continue
        if is_foreign(result, _owner_above(directory)):
            log.warning("left out: %s holds the record of %s", directory, membership(result))
            continue
        objective = result.get("objective") or {}
        names, values = objective.get("names") or (), objective.get("values") or ()
        if result.get("status") != "completed" or not names or None in values:
            continue
        parameters = dict(result.get("parameters") or {})
        yield Candidate(
            directory=str(directory),
            configuration=repr(sorted((k, v) for k, v in parameters.items() if k != "seed")),
            objectives=tuple((name, direction(name)) for name in names),
            values=tuple(map(float, values)),
            recommended=_is_recommended(directory, result),
            loss=str(parameters.get("loss.name", "")),
        )


def _is_recommended(directory: Path, result: Mapping[str, Any]) -> bool | None:
    """Whether the sweep in whose directory a trial lies recommends it; None if it has no answer."""
    known = membership(result)
    designs = (read_object(parent / DESIGN) for parent in directory.parents)
    use = recommended(next(filter(None, designs), None))
    return known.trial in use if use and known is not None else None


def _owner_above(directory: Path) -> Mapping[str, str] | None:
    """The study of the sweep in whose directory a trial lies."""
    return next(filter(None, map(owner, directory.parents)), None)
