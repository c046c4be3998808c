"""Where trials that have not ended would end, and what samplers are told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.search import forecasts as module
from sweeps.search.forecasts import ended_for, epochs_of, forecasts
from sweeps.storage import private
from sweeps.study import recovery

LOSSES = CategoricalDistribution(["mse", "l1"])


def trial(
    number: int,
    reports: dict[int, float],
    state: TrialState = TrialState.PRUNED,
    loss: str = "mse",
    **attrs: Any,
) -> FrozenTrial:
    """One whose value, where it was completed, is that of its last report."""
    made = create_trial(
        state=state,
        value=reports[max(reports)] if state == TrialState.COMPLETE else None,
        intermediate_values=dict(reports),
        params={"loss": loss},
        distributions={"loss": LOSSES},
        user_attrs=attrs,
    )
    made.number = number
    return made


DONE = TrialState.COMPLETE


def test_an_end_is_what_a_trial_had_and_what_others_gained_from_there() -> None:
    known = forecasts(
        [
            trial(0, {1: 10.0, 2: 13.0, 3: 15.0}, DONE),
            trial(1, {1: 11.0, 2: 14.0, 3: 17.0}, DONE),
            trial(2, {1: 9.0, 2: 14.0}),
            trial(3, {1: 12.0}),
            trial(4, {1: 1.0}, TrialState.RUNNING),
        ]
    )
    assert [t.number for t in known.trials] == [0, 1, 2, 3, 4]
    # From 2 to 3 by 2 and 3: 2.5; from 1 to 2 by 3, 3 and 5: 3.
    assert known.ends[:, 0].tolist() == [15.0, 17.0, 16.5, 17.5, 6.5]
    assert known.variance[:2, 0].tolist() == [0.0, 0.0]
    # As if one more step had been half of the median one off.
    last = (2 * (1.4826 * 0.5) ** 2 + 1.25**2) / 3
    both = last + (3 * 0 + 1.5**2) / 4
    assert known.variance[2:, 0] == pytest.approx([last, both, both])


def test_a_step_that_was_seen_once_is_not_certain() -> None:
    known = forecasts([trial(0, {1: 10.0, 2: 14.0}, DONE), trial(1, {1: 9.0})])
    assert known.variance[:, 0].tolist() == [0.0, 2.0]


def test_nobody_tells_what_comes_after_the_last_report_of_all() -> None:
    known = forecasts([trial(0, {1: 3.0, 4: 5.0}), trial(1, {4: 6.0})])
    assert known.ends[:, 0].tolist() == [5.0, 6.0]
    assert not known.variance.any()


def test_those_that_have_not_come_far_enough_are_left_out() -> None:
    known = forecasts([trial(0, {3: 1.0}), trial(1, {4: 2.0}), trial(2, {2: 3.0}, DONE)], least=4)
    assert [t.number for t in known.trials] == [1, 2]
    assert forecasts([]).trials == []


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_what_is_no_number_is_left_out(lost: float) -> None:
    known = forecasts([trial(0, {1: 2.0, 2: lost}), trial(1, {1: 2.0, 2: 3.0}), trial(2, {1: 1.0})])
    assert [t.number for t in known.trials] == [1, 2]
    assert np.isfinite(known.ends).all()


def test_several_objectives_are_each_forecast() -> None:
    def reported(number: int, **rows: list[float | None]) -> FrozenTrial:
        named = {epoch[1:]: row for epoch, row in rows.items()}
        made = create_trial(state=TrialState.PRUNED, user_attrs={"reports": named})
        made.number = number
        return made

    known = forecasts(
        [
            reported(0, _1=[1.0, 8.0], _2=[3.0, 7.0]),
            reported(1, _1=[2.0, 5.0]),
            reported(2, _1=[None, 5.0]),
        ]
    )
    assert known.ends.tolist() == [[3.0, 7.0], [4.0, 4.0]]
    assert epochs_of(known.trials[0]) == [1, 2]


def test_what_is_no_part_of_the_search_teaches_nothing() -> None:
    trials = [
        trial(0, {1: 1.0, 2: 2.0}, DONE),
        trial(1, {1: 1.0, 2: 9.0}, DONE, phase="confirm"),
        trial(2, {1: 1.0, 2: 9.0}, DONE, same_as=0),
        trial(3, {1: 1.0}, TrialState.FAIL),
        trial(4, {1: 5.0}),
    ]
    known = forecasts(trials)
    assert [t.number for t in known.trials] == [0, 4]
    assert known.ends[:, 0].tolist() == [2.0, 6.0]


def test_a_promoted_trial_is_seen_once() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 5.0}))
    recovery.promote(study, study.trials[0])
    assert [t.number for t in forecasts(study.trials).trials] == [1]


def test_a_sampler_sees_all_as_ended_and_other_levels_moved_to_its_own() -> None:
    trials = [
        trial(0, {1: 10.0, 4: 12.0}, DONE),
        trial(1, {1: 11.0}),
        trial(2, {1: 30.0, 4: 33.0}, DONE, loss="l1"),
        trial(3, {1: 29.0}, loss="l1"),
        trial(4, {}, TrialState.RUNNING),
    ]
    seen = ended_for(["loss"], trials[4])(trials)
    assert [t.number for t in seen] == [0, 1, 2, 3, 4]
    assert [t.state for t in seen] == [DONE] * 4 + [TrialState.RUNNING]
    # From 1 to 4 by 2 and 3: 2.5. Medians: 12.75 of mse, 32.25 of l1. After half of a training,
    # half of the distance to the median counts.
    assert [t.values[0] for t in seen[:4]] == [
        12.0,
        12.75 + 0.75 / 2,
        33.0 - 19.5,
        12.75 - 0.75 / 2,
    ]
    assert trials[1].state == TrialState.PRUNED, "the study's own stay as they are"
    assert [t.number for t in ended_for([], trials[4])(trials)] == [0, 1, 2, 3, 4]


def test_of_many_trials_a_sampler_sees_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST", 4)
    trials = [trial(number, {1: float(number)}) for number in range(9)]
    seen = ended_for([], trials[0])(trials)
    assert [t.number for t in seen] == [0, 1, 7, 8]


def test_a_gaussian_process_goes_where_other_levels_were_good() -> None:
    """With one trial of its own, it can know that of them alone."""
    from sweeps.search.samplers import worker_sampler
    from sweeps.space.dimensions import Dimension, Space

    rates = FloatDistribution(0.0, 1.0)
    space = Space(
        (Dimension("loss", LOSSES, ("mse", "l1")), Dimension("x", rates, enumerated=False))
    )
    config = {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 8}
    proposed = []
    for best in (0.2, 0.8):
        study = optuna.create_study(direction="maximize")
        study.sampler = worker_sampler(config, space, ["loss"], 1)
        for x in np.linspace(0, 1, 9):
            study.add_trial(
                create_trial(
                    value=100 - (x - best) ** 2,
                    params={"loss": "l1", "x": float(x)},
                    distributions={"loss": LOSSES, "x": rates},
                )
            )
        study.add_trial(
            create_trial(
                value=3.0, params={"loss": "mse", "x": 0.5},
                distributions={"loss": LOSSES, "x": rates},
            )
        )  # fmt: skip
        new = private.begin(study, {}, fixed={"loss": "mse"})
        proposed.append(private.suggest(new, "x", rates))
    assert proposed == pytest.approx([0.2, 0.8], abs=0.15)
