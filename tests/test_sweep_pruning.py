"""Trials are stopped by Pareto rank, as ASHA stops them by one loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from sweeps.results.ranking import as_losses
from sweeps.search.pruners import build_pruner, in_epochs
from sweeps.search.pruning import ParetoHalving, Reporting
from sweeps.storage.private import pareto_ranks

BOTH_UP = [StudyDirection.MAXIMIZE, StudyDirection.MAXIMIZE]
Reports = dict[str, list[float | None]]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_with(*reports: Reports, **attrs: Any) -> optuna.Study:
    """A study of two objectives to maximise, whose trials reported this; `attrs` are the last's."""
    study = optuna.create_study(directions=BOTH_UP)
    for number, one in enumerate(reports):
        more = attrs if number == len(reports) - 1 else {}
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"reports": one, **more}))
    return study


def brute_force_ranks(losses: np.ndarray[Any, Any]) -> list[int]:
    """By the definition: take away all that nobody dominates, and again."""

    def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(
            x < y for x, y in zip(a, b, strict=True)
        )

    ranks = [-1] * len(losses)
    rank = 0
    while -1 in ranks:
        left = [i for i, r in enumerate(ranks) if r == -1]
        for i in [i for i in left if not any(dominates(losses[j], losses[i]) for j in left)]:
            ranks[i] = rank
        rank += 1
    return ranks


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_ranks_are_those_of_the_definition(objectives: int, levels: int) -> None:
    random = np.random.default_rng(objectives * levels)
    for count in (0, 1, 2, 7, 40):
        losses = random.integers(levels, size=(count, objectives)).astype(float)
        losses[random.random(losses.shape) < 0.05] = np.inf
        expected = brute_force_ranks(losses)
        assert pareto_ranks(losses).tolist() == expected


def test_lower_is_better_after_the_directions_and_nan_is_worst() -> None:
    up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    losses = as_losses([[3.0, 2.0], [math.nan, None]], [up, down])
    assert losses.tolist() == [[-3.0, 2.0], [math.inf, math.inf]]


def test_a_point_without_a_value_for_each_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have 1 values.*got \[1.0, 2.0\]"):
        as_losses([[1.0, 2.0]], [StudyDirection.MINIMIZE])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 3), "`min_resource` must be .* got 0"), ((1, 1), "`reduction_factor` must be .* got 1")],
)
def test_senseless_rungs_are_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParetoHalving(*arguments)


def test_the_first_at_a_rung_goes_on() -> None:
    assert not ParetoHalving(2).should_prune(study_with({}), 0, 2, [1.0, 1.0])


def test_what_nobody_dominates_goes_on_however_many_share_the_front() -> None:
    front: list[Reports] = [{"2": [float(i), float(-i)]} for i in range(1, 9)]
    study = study_with({}, *front)
    assert not ParetoHalving(2).should_prune(study, 0, 2, [9.0, -9.0])
    assert not ParetoHalving(2).should_prune(study, 0, 2, [8.0, -8.0]), "equal to another"


@pytest.mark.parametrize(("better", "pruned"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_third_goes_on(better: int, pruned: bool) -> None:
    """Of nine trials at the rung three may go on: so two others may be better."""
    above: list[Reports] = [{"3": [2.0 + i, 2.0 + i]} for i in range(better)]
    below: list[Reports] = [{"3": [-float(i), -float(i)]} for i in range(8 - better)]
    study = study_with({}, *above, *below)
    assert ParetoHalving(3).should_prune(study, 0, 3, [1.0, 1.0]) is pruned


def test_with_one_objective_it_decides_as_optunas_own_halving() -> None:
    random = np.random.default_rng(0)
    optunas = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(2, 3, 0)
    )
    ours = optuna.create_study(direction="maximize")
    pruner = ParetoHalving(2, 3)
    decisions = []
    for _ in range(60):
        a, b = optunas.ask(), ours.ask()
        quality = random.random()
        for epoch in range(1, 19):
            value = quality + 0.1 * random.random()
            a.report(value, epoch)
            reports = b.user_attrs.get("reports", {})
            b.set_user_attr("reports", {**reports, str(epoch): [value]})
            expected = a.should_prune()
            assert pruner.should_prune(ours, b, epoch, [value]) is expected
            decisions.append(expected)
            if expected:
                break
    assert 20 < sum(decisions) < 60


def test_a_trial_is_judged_once_at_each_rung() -> None:
    better: list[Reports] = [{"2": [9.0, 9.0], "6": [9.0, 9.0]}] * 5
    pruner = ParetoHalving(2)
    assert pruner.should_prune(study_with({}, *better), 0, 2, [1.0, 1.0])
    judged: Reports = {"2": [1.0, 1.0]}
    assert not pruner.should_prune(study_with(judged, *better), 0, 3, [1.0, 1.0])
    assert not pruner.should_prune(study_with(judged, *better), 0, 5, [1.0, 1.0])
    assert pruner.should_prune(study_with(judged, *better), 0, 6, [1.0, 1.0])


def test_nothing_is_pruned_before_the_first_rung() -> None:
    better: list[Reports] = [{"1": [9.0, 9.0], "2": [9.0, 9.0]}] * 5
    study = study_with({}, *better)
    assert not ParetoHalving(2).should_prune(study, 0, 1, [1.0, 1.0])


def test_others_count_with_their_first_report_from_the_rung_on_and_before_the_next() -> None:
    pruner = ParetoHalving(2)
    early_bad: Reports = {"1": [9.0, 9.0], "3": [0.0, 0.0], "5": [9.0, 9.0], "6": [9.0, 9.0]}
    assert not pruner.should_prune(study_with({}, early_bad), 0, 4, [1.0, 1.0])
    not_there: Reports = {"1": [9.0, 9.0], "6": [9.0, 9.0]}
    assert not pruner.should_prune(study_with({}, not_there), 0, 4, [1.0, 1.0])
    there: Reports = {"5": [9.0, 9.0]}
    assert pruner.should_prune(study_with({}, there), 0, 4, [1.0, 1.0])


def test_nan_is_worst() -> None:
    study = study_with({}, {"2": [0.0, 0.0]}, {"2": [None, None]})
    assert ParetoHalving(2).should_prune(study, 0, 2, [math.nan, math.nan])
    assert not ParetoHalving(2).should_prune(study, 0, 2, [math.nan, 1.0]), "nobody dominates it"
    assert not ParetoHalving(2).should_prune(study_with({}, {"2": [None, 3.0]}), 0, 2, [0.0, 3.0])


@pytest.mark.parametrize("attrs", [{"phase": "confirm"}, {"same_as": 0}])
def test_trials_that_are_no_part_of_the_search_are_no_rivals(attrs: dict[str, Any]) -> None:
    assert ParetoHalving(2).should_prune(study_with({}, {"2": [9.0, 9.0]}), 0, 2, [1.0, 1.0])
    study = study_with({}, {"2": [9.0, 9.0]}, **attrs)
    assert not ParetoHalving(2).should_prune(study, 0, 2, [1.0, 1.0])


@pytest.fixture(params=["memory", "sqlite"])
def create(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., optuna.Study]:
    storage = f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else None
    return lambda **arguments: optuna.create_study(storage=storage, **arguments)


def test_one_objective_is_judged_by_the_studys_own_pruner(
    create: Callable[..., optuna.Study],
) -> None:
    study = create(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=10.0))
    reporting, trial = Reporting(), study.ask()
    assert not reporting.report(trial, 1, [12.0])
    assert reporting.report(trial, 2, [9.0])
    assert study.trials[0].intermediate_values == {1: 12.0, 2: 9.0}


def test_several_objectives_are_judged_by_pareto_halving(
    create: Callable[..., optuna.Study],
) -> None:
    study = create(directions=BOTH_UP)
    reporting = Reporting(ParetoHalving(2))
    for value, expected in ((5.0, False), (1.0, True), (6.0, False)):
        trial = study.ask()
        assert not reporting.report(trial, 1, [value, value])
        assert reporting.report(trial, 2, [value, value]) is expected
    assert study.trials[1].user_attrs["reports"] == {"1": [1.0, 1.0], "2": [1.0, 1.0]}


def test_without_a_pruner_several_objectives_are_only_recorded() -> None:
    study = study_with({"1": [9.0, 9.0]})
    trial = study.ask()
    assert not Reporting().report(trial, 1, [1.0, math.nan])
    assert study.trials[1].user_attrs["reports"] == {"1": [1.0, None]}


@pytest.mark.parametrize("objectives", [1, 2])
def test_confirmations_are_recorded_but_never_pruned(objectives: int) -> None:
    study = optuna.create_study(
        directions=[StudyDirection.MAXIMIZE] * objectives,
        pruner=optuna.pruners.ThresholdPruner(lower=10.0),
    )
    reporting = Reporting(ParetoHalving(1))
    reporting.report(study.ask(), 1, [5.0] * objectives)
    trial = study.ask()
    trial.set_user_attr("phase", "confirm")
    assert not reporting.report(trial, 1, [1.0] * objectives)
    recorded = study.trials[1]
    assert recorded.intermediate_values or recorded.user_attrs["reports"]


@pytest.mark.parametrize("objectives", [1, 2])
def test_an_epoch_that_an_interrupted_trial_repeats_is_skipped_without_a_warning(
    objectives: int,
) -> None:
    study = optuna.create_study(
        directions=[StudyDirection.MAXIMIZE] * objectives,
        pruner=optuna.pruners.ThresholdPruner(lower=10.0),
    )
    first = [12.0] * objectives
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            intermediate_values={1: 12.0, 2: 12.0} if objectives == 1 else {},
            user_attrs={"reports": {"1": first, "2": first}} if objectives > 1 else {},
        )
    )
    trial = study.ask()
    before = (study.trials[0].intermediate_values, study.trials[0].user_attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not Reporting().report(trial, 2, [11.0] * objectives)
    assert (study.trials[0].intermediate_values, study.trials[0].user_attrs) == before
    assert Reporting().report(trial, 3, [1.0] * objectives) is (objectives == 1)


def test_a_report_without_a_value_for_each_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have 2 values.*got \[1.0\]"):
        Reporting().report(study_with().ask(), 1, [1.0])


def test_the_first_rung_is_a_ninth_or_where_all_trials_have_warmed_up() -> None:
    asha = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": None}
    nested = {
        "_target_": "optuna.pruners.PatientPruner",
        "wrapped_pruner": {"n_warmup_steps": None},
    }
    for warmup, first in ((0, 7), (6.5, 7), (7.5, 8), (30, 30)):
        found = in_epochs(asha, max_epochs=60, warmup_epochs=warmup)
        assert found["min_resource"] == first
        within = in_epochs(nested, max_epochs=60, warmup_epochs=warmup)["wrapped_pruner"]
        assert within["n_warmup_steps"] == first


def test_trials_that_warm_up_are_no_better_off_at_the_first_rung() -> None:
    options = in_epochs(
        {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": None},
        max_epochs=60, warmup_epochs=30,
    )  # fmt: skip
    pruner = build_pruner(options, objectives=1)
    assert isinstance(pruner, optuna.pruners.SuccessiveHalvingPruner)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    went_on = {0: 0, 30: 0}
    random = np.random.default_rng(0)
    for number in range(200):
        trial, warmup = study.ask(), 30 * (number % 2)
        quality = random.normal()
        for epoch in range(1, 61):
            if epoch >= warmup:
                trial.report(quality + 4 * (1 - math.exp(-epoch / 20)), epoch)
                if epoch == 30:
                    went_on[warmup] += not trial.should_prune()
                elif trial.should_prune():
                    break
    assert went_on[0] == pytest.approx(went_on[30], rel=0.3)
    assert 40 < sum(went_on.values()) < 100
