"""A comparison and its check on the test images, which are scored first: `checked`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.comparison.comparing import Comparison, compare
from analysis.runs import Runs

if TYPE_CHECKING:
    from analysis.scores import Scores

log = logging.getLogger(__name__)


def checked(
    runs: Runs, *, by: Sequence[str] | None = None, margins: Mapping[str, float] | None = None
) -> tuple[Comparison, Scores | None]:
    """The comparison, and the scores on test images of the trials that count in it.

    Where none of them can be scored, since their checkpoints or images are not here, there is no
    check, and a note says why.

    Args:
        runs: the trials.
        by: see `compare`.
        margins: the same.
    """
    from analysis.scores import score

    comparison = compare(runs, by=by, margins=margins)
    trials = [name for level in comparison.levels for name in level.counted]
    if not trials:
        return comparison, None
    log.info("scoring %d trials on the test split", len(trials))
    scores = score(runs, trials)
    if scores.values:
        return compare(runs, scores, by=by, margins=margins), scores
    why = f"the test split is not scored: {scores.missing[0].reason}"
    return replace(comparison, notes=[*comparison.notes, why]), None
