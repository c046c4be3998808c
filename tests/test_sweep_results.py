"""What a study has found is read from the study alone, and means what it says."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from sweeps.results.importance import importances
from sweeps.results.ranking import best, front, last_improvement, ranking
from sweeps.results.tables import optimization_results, rows, table, write_results

PSNR = ["psnr"]
BOTH = ["psnr", "l1"]
START = datetime(2026, 1, 1)
DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    "loss": CategoricalDistribution(["mse", "l1", "ssim"]),
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "seed": CategoricalDistribution(list(range(10))),
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="cats", direction="maximize")


@pytest.fixture
def several() -> optuna.Study:
    return optuna.create_study(study_name="cats", directions=["maximize", "minimize"])


def add(
    study: optuna.Study,
    params: dict[str, Any],
    values: list[float] | None = None,
    state: TrialState = TrialState.COMPLETE,
    curve: dict[int, float] | None = None,
    **attrs: Any,
) -> int:
    """Add a trial, each a minute after the one before, and return its number."""
    number = len(study.trials)
    trial = create_trial(
        state=state,
        values=values,
        params=params,
        distributions={name: DISTRIBUTIONS[name] for name in params},
        user_attrs=attrs,
        intermediate_values=curve or {},
    )
    if state.is_finished():
        trial.datetime_start = START + timedelta(minutes=number)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=30)
    study.add_trial(trial)
    return number


def test_a_row_holds_what_a_trial_was_and_gave(study: optuna.Study) -> None:
    summary: dict[str, Any] = {
        "metrics": {"val": {"psnr": 19.5, "kl": 90.0}},
        "epochs": 12,
        "timings": {"total_seconds": 61.5},
    }
    attrs: dict[str, Any] = {"seed": 3, "directory": "sweep/0", "summary": summary}
    add(study, {"loss": "mse", "lr": 1e-3}, [19.5], **attrs)
    add(study, {"loss": "l1", "lr": 1e-2}, state=TrialState.FAIL, reason="out of memory")
    assert rows(study, PSNR) == [
        {
            "number": 0,
            "state": "complete",
            "params/loss": "mse",
            "params/lr": 1e-3,
            "seed": 3,
            "objective/psnr": 19.5,
            "val/psnr": 19.5,
            "val/kl": 90.0,
            "epochs": 12,
            "seconds": 61.5,
            "directory": "sweep/0",
        },
        {
            "number": 1,
            "state": "fail",
            "params/loss": "l1",
            "params/lr": 1e-2,
            "seconds": 30.0,
            "reason": "out of memory",
        },
    ]


def test_an_unfinished_trial_shows_its_last_report(
    study: optuna.Study, several: optuna.Study
) -> None:
    add(study, {"lr": 1.0}, state=TrialState.RUNNING, curve={1: 10.0, 2: 12.0})
    add(several, {}, state=TrialState.PRUNED, reports={"2": [9, 1], "10": [8, 2]})
    assert rows(study, PSNR)[0]["objective/psnr"] == 12.0
    assert rows(study, PSNR)[0]["epochs"] == 2
    row = rows(several, BOTH)[0]
    assert (row["objective/psnr"], row["objective/l1"], row["epochs"]) == (8, 2, 10)


def test_withdrawn_and_repeated_trials_appear_nowhere(study: optuna.Study) -> None:
    add(study, {"lr": 0.1}, state=TrialState.FAIL, retried=True)
    add(study, {"lr": 0.2}, [19.0])
    add(study, {"lr": 0.1}, [18.0], retries=1)
    assert [row["number"] for row in rows(study, PSNR)] == [1, 2]
    assert [entry.configuration.unfinished for entry in ranking(study, PSNR)] == [0, 0]


def test_trials_that_optunas_own_callback_repeated_appear_nowhere(study: optuna.Study) -> None:
    add(study, {"lr": 0.1}, state=TrialState.FAIL)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        callback = optuna.storages.RetryHeartbeatStaleTrialCallback()
    callback(study, study.trials[0])
    assert [row["number"] for row in rows(study, PSNR)] == [1]


def test_a_table_is_a_data_frame_with_a_row_a_trial(study: optuna.Study) -> None:
    add(study, {"lr": 0.1}, [19.0], seed=1)
    add(study, {"lr": 0.2}, state=TrialState.PRUNED, curve={1: 3.0})
    frame = table(study, PSNR)
    assert frame["objective/psnr"].tolist() == [19.0, 3.0]
    assert frame["seed"].isna().tolist() == [False, True]
    assert "objective/0" in table(study), "without names, by number"


def test_a_study_in_a_database_is_read_without_anything_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    written = optuna.create_study(study_name="cats", storage=url, direction="maximize")
    add(written, {"lr": 0.1}, [19.0], directory="/gone", summary={"epochs": 3})
    read = optuna.load_study(study_name="cats", storage=url)
    assert rows(read, PSNR) == rows(written, PSNR)
    assert rows(read, PSNR)[0]["epochs"] == 3


def test_names_must_be_those_of_the_objectives(study: optuna.Study) -> None:
    for function in (rows, ranking, front, best, last_improvement, importances):
        with pytest.raises(ValueError, match=r"must have 1 names.*got \['psnr', 'l1'\]"):
            function(study, BOTH)


def test_configurations_are_ranked_by_the_mean_over_their_seeds(study: optuna.Study) -> None:
    for seed, value in enumerate([20.0, 10.0, 12.0]):  # lucky once
        add(study, {"loss": "mse"}, [value], seed=seed)
    for seed, value in enumerate([15.0, 16.0, 17.0]):
        add(study, {"loss": "l1"}, [value], seed=seed)
    first, second = ranking(study, PSNR)
    assert first.configuration.params == {"loss": "l1"}
    assert (first.rank, first.configuration.seeds, first.configuration.trial) == (1, 3, 3)
    assert first.configuration.means == (16.0,)
    assert first.configuration.stds == (1.0,)
    assert second.configuration.means == (14.0,)
    assert second.configuration.stds == pytest.approx((np.std([20, 10, 12], ddof=1),))
    assert best(study, PSNR) == first.configuration


def test_a_swept_seed_is_no_part_of_a_configuration(study: optuna.Study) -> None:
    add(study, {"loss": "mse", "seed": 0}, [10.0])
    add(study, {"loss": "mse", "seed": 1}, [12.0])
    add(study, {"loss": "mse", "seed": 1}, [12.0])
    (only,) = ranking(study, PSNR)
    assert only.configuration.params == {"loss": "mse"}
    assert only.configuration.trials == (0, 1), "the same seed twice is no more evidence"
    assert only.configuration.means == (11.0,)


def test_a_copied_result_is_no_more_evidence(study: optuna.Study) -> None:
    add(study, {"loss": "mse"}, [10.0])
    add(study, {"loss": "mse"}, [10.0], same_as=0)
    assert [entry.configuration.seeds for entry in ranking(study, PSNR)] == [1]
    assert math.isnan(ranking(study, PSNR)[0].configuration.stds[0])


def test_seeds_without_a_result_are_told(study: optuna.Study) -> None:
    add(study, {"loss": "mse"}, [10.0], seed=0)
    add(study, {"loss": "mse"}, state=TrialState.PRUNED, curve={1: 3.0}, seed=1)
    add(study, {"loss": "mse"}, state=TrialState.FAIL, seed=2)
    add(study, {"loss": "l1"}, state=TrialState.FAIL)
    (only,) = ranking(study, PSNR)
    assert (only.configuration.means, only.configuration.unfinished) == ((10.0,), 2)


def test_a_metric_to_minimise_is_ranked_from_below() -> None:
    study = optuna.create_study(direction="minimize")
    for value, loss in ((3.0, "mse"), (1.0, "l1"), (2.0, "ssim")):
        add(study, {"loss": loss}, [value])
    ranked = ranking(study, ["l1"])
    assert [e.configuration.means[0] for e in ranked] == [1.0, 2.0, 3.0]
    assert [e.rank for e in ranked] == [1, 2, 3]


def test_several_objectives_are_ranked_front_by_front(several: optuna.Study) -> None:
    points = [[10.0, 5.0], [9.0, 1.0], [8.0, 2.0], [12.0, 4.0], [7.0, 9.0], [12.0, 4.0]]
    for i, point in enumerate(points):
        add(several, {"lr": 0.1 + i / 10}, point)
    ranked = ranking(several, BOTH)
    assert [e.rank for e in ranked] == [1, 1, 1, 2, 2, 3]
    assert {e.configuration.trial for e in ranked[:3]} == {1, 3, 5}
    assert [e.configuration for e in ranked[:3]] == front(several, BOTH)
    assert {t.number for t in several.best_trials} == {1, 3, 5}, "Optuna says so too"
    assert ranking(several, BOTH) == ranked


def confirm(study: optuna.Study, number: int, *values: list[float]) -> None:
    params = study.trials[number].params
    for i, value in enumerate(values):
        add(study, params, value, seed=100 + i, phase="confirm", confirms=number)


def test_confirmed_configurations_stand_above_all_others(study: optuna.Study) -> None:
    add(study, {"loss": "mse"}, [20.0], seed=0)
    add(study, {"loss": "l1"}, [19.0], seed=0)
    add(study, {"loss": "ssim"}, [18.0], seed=0)
    confirm(study, 0, [14.0], [14.0])
    confirm(study, 1, [16.0], [16.0])
    ranked = ranking(study, PSNR)
    assert [e.configuration.params["loss"] for e in ranked] == ["l1", "mse", "ssim"]
    assert [e.rank for e in ranked] == [1, 2, 3]
    assert [e.configuration.confirmed for e in ranked] == [True, True, False]
    assert ranked[0].configuration.means == (16.0,), "what it was chosen for flatters it"
    assert ranked[0].configuration.seeds == 2
    assert ranked[0].configuration.trial == 1
    assert best(study, PSNR) == ranked[0].configuration


def test_those_still_in_the_race_stand_above_those_who_lost_it(study: optuna.Study) -> None:
    add(study, {"loss": "mse"}, [20.0], seed=0)
    add(study, {"loss": "l1"}, [19.0], seed=0)
    confirm(study, 0, [14.0], [14.0], [11.0])
    confirm(study, 1, [13.5], [13.5])
    assert [e.configuration.trial for e in ranking(study, PSNR)] == [1, 0]
    study.set_user_attr("race", {"kept": [0]})
    assert [e.configuration.trial for e in ranking(study, PSNR)] == [0, 1]
    assert [c.trial for c in front(study, PSNR)] == [0]


def test_of_several_objectives_too(several: optuna.Study) -> None:
    add(several, {"loss": "mse"}, [20.0, 1.0])
    add(several, {"loss": "l1"}, [19.0, 2.0])
    confirm(several, 1, [18.0, 2.0])
    assert [e.configuration.params["loss"] for e in ranking(several, BOTH)] == ["l1", "mse"]
    assert [c.params["loss"] for c in front(several, BOTH)] == ["l1"]


def test_a_confirmation_that_failed_confirms_nothing(study: optuna.Study) -> None:
    add(study, {"loss": "mse"}, [20.0])
    add(study, {"loss": "mse"}, state=TrialState.FAIL, phase="confirm", confirms=0)
    assert not ranking(study, PSNR)[0].configuration.confirmed


def test_an_empty_study_has_no_results(study: optuna.Study, several: optuna.Study) -> None:
    assert (rows(study, PSNR), ranking(study, PSNR), front(study, PSNR)) == ([], [], [])
    assert best(study, PSNR) is None
    assert last_improvement(study, PSNR) == 0
    assert importances(study, PSNR) == {}
    nothing: dict[str, Any] = {"name": "optuna", "best_params": {}, "best_value": None}
    assert optimization_results(study, PSNR) == nothing
    assert optimization_results(several, BOTH) == {"name": "optuna", "solutions": []}


def test_results_are_written_as_hydras_own_sweeper_writes_them(
    study: optuna.Study, tmp_path: Path
) -> None:
    add(study, {"loss": "mse", "lr": 1e-5}, [18.0])
    add(study, {"loss": "l1", "lr": 0.5}, [19.5])
    path = tmp_path / "optimization_results.yaml"
    path.write_text("former")
    write_results(path, study, PSNR)
    assert yaml.safe_load(path.read_text()) == {
        "name": "optuna",
        "best_params": study.best_params,
        "best_value": study.best_value,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_several_objectives_are_written_as_solutions(several: optuna.Study, tmp_path: Path) -> None:
    add(several, {"loss": "mse"}, [20.0, 2.0])
    add(several, {"loss": "l1"}, [19.0, 1.0])
    add(several, {"loss": "ssim"}, [18.0, 3.0])
    write_results(tmp_path / "r.yaml", several, BOTH)
    assert yaml.safe_load((tmp_path / "r.yaml").read_text()) == {
        "name": "optuna",
        "solutions": [{"params": t.params, "values": t.values} for t in several.best_trials],
    }


def test_the_parameter_that_decides_is_the_most_important(several: optuna.Study) -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        lr, loss = float(10 ** random.uniform(-4, 0)), str(random.choice(["mse", "l1", "ssim"]))
        params = {"loss": loss, "lr": lr, "seed": int(random.integers(10))}
        noise = random.normal(scale=1e-3)
        add(several, params, [20 + math.log10(lr) + noise, {"mse": 3, "l1": 1, "ssim": 2}[loss]])
    found = importances(several, BOTH)
    assert list(found) == BOTH
    assert [next(iter(shares)) for shares in found.values()] == ["lr", "loss"]
    for shares in found.values():
        assert set(shares) == {"loss", "lr"}, "the seed is none"
        assert sum(shares.values()) == pytest.approx(1)


def test_importances_need_four_trials_and_two_parameters_that_vary(study: optuna.Study) -> None:
    for i, loss in enumerate(["mse", "l1", "mse"]):
        add(study, {"loss": loss, "lr": 0.1 * (i + 1)}, [float(i)])
    add(study, {"loss": "ssim", "lr": 0.9}, [5.0], same_as=0)
    assert importances(study, PSNR) == {}
    add(study, {"loss": "mse", "lr": 0.5}, [4.0])
    assert set(importances(study, PSNR)["psnr"]) == {"loss", "lr"}

    constant = optuna.create_study(direction="maximize")
    for i in range(8):
        add(constant, {"loss": "mse", "lr": 0.1 * (i + 1)}, [float(i)])
    assert importances(constant, PSNR) == {}


def test_trials_since_the_best_value_are_counted_in_order_of_completion(
    study: optuna.Study,
) -> None:
    add(study, {}, state=TrialState.PRUNED, curve={1: 99.0})
    assert last_improvement(study, PSNR) == 1
    add(study, {}, [10.0])
    assert last_improvement(study, PSNR) == 0
    add(study, {}, [10.0])
    add(study, {}, [9.0], same_as=0)
    add(study, {}, state=TrialState.PRUNED, curve={1: 99.0})
    add(study, {}, state=TrialState.FAIL)
    add(study, {}, state=TrialState.RUNNING)
    assert last_improvement(study, PSNR) == 3
    add(study, {}, [30.0], phase="confirm", confirms=1)
    assert last_improvement(study, PSNR) == 3, "a confirmation is no part of the search"
    add(study, {}, [11.0])
    assert last_improvement(study, PSNR) == 0


def test_a_trial_that_began_early_and_ended_late_counts_when_it_ended(
    study: optuna.Study,
) -> None:
    slow = create_trial(value=20.0)
    slow.datetime_start, slow.datetime_complete = START, START + timedelta(days=1)
    study.add_trial(slow)
    for _ in range(3):
        add(study, {}, [10.0])
    assert last_improvement(study, PSNR) == 0


def test_the_front_improves_by_a_new_point_that_nobody_dominates(several: optuna.Study) -> None:
    add(several, {}, [10.0, 5.0])
    add(several, {}, [9.0, 6.0])
    add(several, {}, [10.0, 5.0])
    assert last_improvement(several, BOTH) == 2
    add(several, {}, [9.0, 1.0])
    assert last_improvement(several, BOTH) == 0
    add(several, {}, [9.5, 5.5])
    assert last_improvement(several, BOTH) == 1


def test_patience_agrees_with_the_definition(several: optuna.Study) -> None:
    random = np.random.default_rng(1)
    points: list[list[float]] = []
    since = 0
    for _ in range(60):
        point = [float(v) for v in random.integers(12, size=2)]
        no_news = any(p[0] >= point[0] and p[1] <= point[1] for p in points)
        since = since + 1 if no_news else 0
        points.append(point)
        add(several, {}, point)
        assert last_improvement(several, BOTH) == since
