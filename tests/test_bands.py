"""W&B's early termination, by hand-checked histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from sweeps.search.bands import BandPruner


def judged(
    pruner: BandPruner,
    history: Sequence[float],
    *others: Sequence[float],
    direction: Literal["minimize", "maximize"] = "minimize",
) -> bool:
    """Whether a trial with that history is stopped, after trials with other ones."""
    study = optuna.create_study(direction=direction)
    for values in (*others, history):
        # Validations are a few epochs apart; the last trial still runs.
        reports = {3 * i + 2: value for i, value in enumerate(values)}
        state = TrialState.COMPLETE if values is not history else TrialState.RUNNING
        value = values[-1] if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value, intermediate_values=reports))
    return pruner.prune(study, study.get_trials()[-1])


def test_bands_are_those_of_the_documentation() -> None:
    assert BandPruner(min_iter=3).bands[:4] == [3, 9, 27, 81]
    assert BandPruner(max_iter=27, s=2).bands == [3, 9]
    assert BandPruner(min_iter=2, eta=1.5).bands[:4] == [2, 3, 4, 6]
    assert BandPruner(max_iter=9, s=5).bands == [1, 3]


def test_the_best_third_at_a_band_goes_on() -> None:
    pruner = BandPruner(min_iter=2, strict=True)
    others = [[9, 1], [9, 2], [9, 3], [9, 4], [9, 5]]
    # Of six, the threshold is the third best.
    assert not judged(pruner, [9, 2.5], *others)
    assert judged(pruner, [9, 3.5], *others)
    assert not judged(pruner, [9], *others), "no band is reached"
    assert judged(pruner, [9, 3.5, 0], *others), "by what it had at the band"
    assert not judged(BandPruner(min_iter=2), [9, 3.5, 0], *others), "by the best that it had"


def test_more_is_better_where_the_study_maximizes() -> None:
    pruner = BandPruner(min_iter=1)
    assert judged(pruner, [1], [2], [3], [4], direction="maximize")
    assert not judged(pruner, [5], [2], [3], [4], direction="maximize")


def test_only_trials_that_came_as_far_count() -> None:
    pruner = BandPruner(min_iter=1, eta=2, strict=True)
    assert not judged(pruner, [5, 5], [9, 6], [1], [1], [1]), "band 2: 5 and 6, both go on"
    assert judged(pruner, [5], [9, 6], [1], [1], [1]), "band 1: the fourth of five"


def test_a_metric_that_is_the_best_so_far_never_gets_worse() -> None:
    others = [[1, 9], [2, 9], [5, 9], [5, 9]]
    assert not judged(BandPruner(min_iter=2, strict=True, best_so_far=True), [2, 99], *others)
    assert judged(BandPruner(min_iter=2, strict=True), [2, 99], *others)


def test_nan_is_no_validation() -> None:
    pruner = BandPruner(min_iter=2, strict=True)
    assert not judged(pruner, [float("nan"), 9], [1, 1], [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "hyperband needs `min_iter`, or `max_iter` with `s`"),
        ({"max_iter": 27}, "needs `min_iter`"),
        ({"min_iter": 3, "eta": 1}, "`eta` must be above 1, but got 1"),
        ({"max_iter": 2, "s": 2}, "`max_iter` must be `eta` or more, but got 2"),
    ],
)
def test_bands_that_are_none_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BandPruner(**options)  # type: ignore[arg-type]
