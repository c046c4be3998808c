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

from sweeps.results.ranking import as_losses, last_improvement
from sweeps.search.halving import Halving
from sweeps.search.pruners import build_pruner, in_epochs
from sweeps.search.pruning import Reporting
from sweeps.storage.private import pareto_ranks
from sweeps.study import recovery

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
        Halving(*arguments)


def at(values: Sequence[float], **epochs: float) -> Reports:
    """What trials report that have `values` at epoch 2, here for two objectives alike."""
    return {"2": [values[0], values[-1]], **{k[1:]: [v, v] for k, v in epochs.items()}}


def test_the_first_trials_wait_until_there_are_enough_to_choose_from() -> None:
    worse, good = at([0.0]), at([1.0])
    assert Halving(2).should_prune(study_with(good), 0, 2)
    assert Halving(2).should_prune(study_with(good, worse), 0, 2)
    assert not Halving(2).should_prune(study_with(good, worse, worse), 0, 2)


def test_what_nobody_dominates_goes_on_however_many_share_the_front() -> None:
    front = [at([float(i), float(-i)]) for i in range(1, 9)]
    assert not Halving(2).should_prune(study_with(at([9.0, -9.0]), *front), 0, 2)
    assert not Halving(2).should_prune(study_with(at([8.0, -8.0]), *front), 0, 2), "equal"


@pytest.mark.parametrize(("better", "pruned"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_third_goes_on(better: int, pruned: bool) -> None:
    """Of nine trials three may go on: so two others may be better."""
    above = [at([2.0 + i]) for i in range(better)]
    below = [at([-float(i)]) for i in range(8 - better)]
    study = study_with(at([1.0]), *above, *below)
    assert Halving(2, 3).should_prune(study, 0, 2) is pruned


@pytest.mark.parametrize(("better", "pruned"), [(0, False), (1, True), (2, True)])
def test_half_as_many_go_on_from_the_next_rung_but_always_the_best(
    better: int, pruned: bool
) -> None:
    above = [at([2.0 + i], _4=2.0 + i) for i in range(better)]
    below = [at([-float(i)]) for i in range(8 - better)]
    assert Halving(2, 3).should_prune(study_with(at([1.0], _4=1.0), *above, *below), 0, 4) is pruned
    assert not Halving(2, 3).should_prune(study_with(at([1.0], _4=1.0)), 0, 4)


def test_a_trial_is_judged_at_its_first_report_from_each_rung_on() -> None:
    better = [at([9.0], _4=9.0)] * 3
    pruner = Halving(2)

    def judged(*epochs: int) -> bool:
        own: Reports = {str(epoch): [1.0, 1.0] for epoch in epochs}
        return pruner.should_prune(study_with(own, *better), 0, epochs[-1])

    assert not judged(1), "before the first"
    assert judged(2)
    assert judged(3), "none at 2: it is validated every third epoch"
    assert not judged(2, 3)
    assert judged(2, 4)
    assert judged(3, 6)
    assert not judged(2, 4, 7)
    assert judged(2, 4, 7, 9)


def test_trials_are_compared_by_where_they_would_end() -> None:
    """What had less after two epochs than another after four is ahead of it."""
    fast, slow = at([5.0], _4=9.0), at([4.0], _4=8.0)
    pruner = Halving(2, 2)
    assert not pruner.should_prune(study_with(at([6.0]), fast, slow), 0, 2)
    assert pruner.should_prune(study_with(at([4.5]), fast, slow), 0, 2)


def test_what_is_no_number_stays_where_it_is() -> None:
    study = study_with({"2": [math.nan, 1.0]}, at([0.0]), at([0.0]))
    assert Halving(2).should_prune(study, 0, 2)
    study = study_with({"2": [None, 3.0]}, at([0.0]), at([0.0]))
    assert Halving(2).should_prune(study, 0, 2)


@pytest.mark.parametrize("attrs", [{"phase": "confirm"}, {"same_as": 0}])
def test_trials_that_are_no_part_of_the_search_are_no_rivals(attrs: dict[str, Any]) -> None:
    trials = [at([1.0]), at([0.0]), at([0.0]), at([9.0])]
    assert Halving(2).should_prune(study_with(*trials), 0, 2)
    assert not Halving(2).should_prune(study_with(*trials, **attrs), 0, 2)


def paused(study: optuna.Study, *reports: dict[int, float], **attrs: Any) -> None:
    """Trials of one objective that were pruned for now."""
    for one in reports:
        known = {"paused": max(one), **attrs}
        study.add_trial(
            create_trial(state=TrialState.PRUNED, intermediate_values=dict(one), user_attrs=known)
        )


def number_of(trial: optuna.trial.FrozenTrial | None) -> int | None:
    return None if trial is None else trial.number


def test_a_pruned_trial_is_promoted_when_those_that_follow_are_worse() -> None:
    study = optuna.create_study(direction="minimize")
    pruner = Halving(2)
    paused(study, {2: 5.0}, {2: 4.0})
    assert pruner.promotable(study, {""}) is None
    paused(study, {2: 6.0})
    assert number_of(pruner.promotable(study, {""})) == 1
    paused(study, {2: 3.0}, {2: 7.0}, {2: 8.0})
    assert number_of(pruner.promotable(study, {""})) == 3, "of two the better one"


def test_at_the_end_those_are_promoted_that_may_become_the_best() -> None:
    study = optuna.create_study(direction="maximize")
    pruner = Halving(2)
    paused(study, {2: 4.0}, {2: 5.0})
    assert pruner.promotable(study, {""}) is None, "more will begin"
    assert number_of(pruner.promotable(study, ())) == 1
    study.add_trial(create_trial(state=TrialState.RUNNING))
    assert pruner.promotable(study, ()) is None, "one trains"
    study = optuna.create_study(direction="maximize")
    for value in (8.0, 8.4, 9.2):  # which gained 5, 5.4 and 6.2
        gains = {2: 3.0, 4: value}
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=value, intermediate_values=gains)
        )
    paused(study, {2: 3.7}, {2: 0.0})
    assert number_of(pruner.promotable(study, ())) == 3, "a deviation more than 9.1 is ahead"
    paused(study, {2: 2.5})
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=12.0))
    assert pruner.promotable(study, ()) is None


def test_what_goes_on_is_promoted_no_more() -> None:
    study = optuna.create_study(direction="maximize")
    paused(study, {2: 5.0}, {2: 1.0}, {2: 0.0})
    chosen = Halving(2).promotable(study, {""})
    assert chosen is not None
    recovery.promote(study, chosen)
    waiting = study.trials[-1]
    assert (waiting.state, waiting.user_attrs["promoted"]) == (TrialState.WAITING, 2)
    assert waiting.intermediate_values == {2: 5.0}
    assert Halving(2).promotable(study, {""}) is None


@pytest.mark.parametrize(
    "known",
    [{"paused": None}, {"paused": 1}, {"paused": 2, "promoted": 2}],
    ids=["by another pruner", "at W&B, after it was promoted", "it came no further"],
)
def test_what_was_pruned_for_good_is_not_promoted(known: dict[str, Any]) -> None:
    study = optuna.create_study(direction="maximize")
    attrs = {key: value for key, value in known.items() if value is not None}
    for value in (5.0, 1.0, 0.0):
        study.add_trial(
            create_trial(state=TrialState.PRUNED, intermediate_values={2: value}, user_attrs=attrs)
        )
    assert Halving(2).promotable(study, {""}) is None
    assert Halving(2).promotable(study, ()) is None
    assert last_improvement(study, ["psnr"]) == 3


def test_what_is_pruned_for_now_has_not_said_its_last() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=3.0))
    paused(study, {2: 5.0}, {2: 1.0})
    assert last_improvement(study, ["psnr"]) == 0


def test_levels_have_each_their_own() -> None:
    study = optuna.create_study(direction="maximize")
    losses = optuna.distributions.CategoricalDistribution(["mse", "l1"])
    for loss, value in (("mse", 9.0), ("mse", 8.0), ("mse", 7.0), ("l1", 3.0), ("l1", 2.0)):
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                intermediate_values={2: value},
                params={"loss": loss},
                distributions={"loss": losses},
                user_attrs={"paused": 2},
            )
        )
    pruner = Halving(2, 3, ["loss"])
    assert number_of(pruner.promotable(study, {"mse", "l1"})) == 0
    recovery.promote(study, study.trials[0])
    assert pruner.promotable(study, {"mse", "l1"}) is None
    assert number_of(pruner.promotable(study, {"mse"})) == 3, "l1 has had all its trials"


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


@pytest.mark.parametrize("objectives", [1, 2])
def test_halving_judges_one_objective_or_several(
    create: Callable[..., optuna.Study], objectives: int
) -> None:
    study = create(directions=BOTH_UP[:objectives])
    reporting = Reporting(Halving(2))
    for value, expected in ((5.0, True), (1.0, True), (6.0, False)):
        trial = study.ask()
        assert not reporting.report(trial, 1, [value] * objectives)
        assert reporting.report(trial, 2, [value] * objectives) is expected
    if objectives > 1:
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
    reporting = Reporting(Halving(1))
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


def test_the_first_rung_is_a_fifth_or_where_all_trials_have_warmed_up() -> None:
    asha = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": None}
    nested = {
        "_target_": "optuna.pruners.PatientPruner",
        "wrapped_pruner": {"n_warmup_steps": None},
    }
    for warmup, first in ((0, 12), (11.5, 12), (12.5, 13), (30, 30)):
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
