"""The trial that a sweep says is the best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A completed trial.

    Attributes:
        directory: of its record.
        objective: the first one's name.
        value: of the objective.
        maximize: whether more is better.
        recommended: whether the sweep's answer is to use its configuration.
    """

    directory: Path
    objective: str
    value: float
    maximize: bool
    recommended: bool


def best(candidates: Sequence[Candidate], sweep: str) -> Candidate:
    """Of the trials that the sweep recommends the one with the best objective.

    Of a sweep that has not said what it recommends, the best of all; and that is said in the log.

    Args:
        candidates: at least one.
        sweep: for people.

    Raises:
        UserError: the trials have different objectives.
    """
    if len({(one.objective, one.maximize) for one in candidates}) > 1:
        raise UserError(
            f"the best of several trials is by one objective, but those in {sweep} have different "
            "ones; name the directory of one trial"
        )
    among = [one for one in candidates if one.recommended]
    chosen = max(among or candidates, key=lambda one: one.value if one.maximize else -one.value)
    log.info(
        "%s%s of %d trials: %s (%s %.4g)",
        "" if among else f"{sweep} does not say which trial is best, so by one run each; ",
        "recommended" if among else "the best",
        len(candidates), chosen.directory, chosen.objective, chosen.value,
    )  # fmt: skip
    return chosen
