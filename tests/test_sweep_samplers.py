"""Samplers: what the user says is honoured, and no two workers draw the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler

from experiments.errors import UserError
from sweeps.search.pruners import build_pruner
from sweeps.search.samplers import LevelSampler, worker_sampler
from sweeps.space.dimensions import Dimension, Space
from sweeps.space.points import point_name
from sweeps.storage import private
from sweeps.storage.attributes import LEASE, POINT
from sweeps.study.counts import Counts
from sweeps.study.proposals import proposed, suggest
from tests.hydra_multirun import multirun_config

SPACE = Space(
    (
        Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False),
        Dimension("loss", CategoricalDistribution(["mse", "l1", "ssim"]), ("mse", "l1", "ssim")),
    )
)
NAMES = ["tpe", "random", "cmaes", "gp", "qmc", "nsgaii", "nsgaiii"]


def config_of(*overrides: str) -> dict[str, Any]:
    """What `hydra.sweeper.sampler` is with these overrides."""
    from omegaconf import OmegaConf

    _, config = multirun_config(*overrides)
    plain = OmegaConf.to_container(config.hydra.sweeper.sampler, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def tpe(*overrides: str) -> TPESampler:
    config = config_of("hydra/sweeper/sampler=tpe", *overrides)
    sampler = worker_sampler(config, SPACE)._build(0)
    assert isinstance(sampler, TPESampler)
    return sampler


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("option", ["constant_liar", "multivariate"])
def test_what_is_said_of_tpe_is_honoured(option: str, told: bool) -> None:
    sampler = tpe(f"hydra.sweeper.sampler.{option}={str(told).lower()}")
    assert getattr(sampler, f"_{option}") is told


def test_what_is_not_said_of_tpe_is_as_optuna_has_it() -> None:
    ours, optunas = vars(tpe()), vars(TPESampler())
    for option in ("_multivariate", "_constant_liar", "_group", "_n_startup_trials"):
        assert ours[option] == optunas[option]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", "one"),
        ("seed", "-1"),
        ("seed", "1.5"),
        ("n_startup_trials", "ten"),
        ("n_ei_candidates", "true"),
        ("constant_liar", "maybe"),
        ("multivariate", "1"),
    ],
)
def test_a_mistyped_option_of_tpe_is_refused(option: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"`hydra\.sweeper\.sampler\.{option}` must be") as caught:
        tpe(f"hydra.sweeper.sampler.{option}={value}")
    assert "\n" not in str(caught.value)


def asked(study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    """What a worker proposes, which begins a trial with its lease."""
    found = []
    for _ in range(trials):
        trial = private.begin(study, {LEASE: {"worker": "mine"}})
        for dimension in SPACE.dimensions:
            trial._suggest(dimension.key, dimension.distribution)
        found.append(trial.params)
        study.tell(trial, trial.params["lr"])
    return found


@pytest.fixture
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return config_of(f"hydra/sweeper/sampler={request.param}", "hydra.sweeper.sampler.seed=7")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("config", NAMES, indirect=True)
def test_the_worker_that_begins_a_study_searches_as_the_seed_says(config: dict[str, Any]) -> None:
    again = [asked(optuna.create_study(sampler=worker_sampler(config, SPACE)), 4) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("config", NAMES, indirect=True)
@pytest.mark.parametrize("joined", ["at once", "later"])
def test_machines_with_one_seed_do_not_propose_the_same(
    config: dict[str, Any], joined: str, tmp_path: Path
) -> None:
    """Both build their sampler while the study is empty, as commands that start together do."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(study_name="shared", storage=storage)

    def join() -> optuna.Study:
        sampler = worker_sampler(config, SPACE)
        return optuna.load_study(study_name="shared", storage=storage, sampler=sampler)

    if joined == "at once":
        one, other = join(), join()
        proposed = [p for _ in range(3) for study in (one, other) for p in asked(study, 1)]
    else:
        proposed = [p for _ in range(3) for p in asked(join(), 2)]
    rates = [p["lr"] for p in proposed]
    assert len(set(rates)) == len(rates)


def test_a_worker_that_goes_on_with_a_trial_does_not_draw_its_numbers_again() -> None:
    config = {"_target_": "optuna.samplers.RandomSampler", "seed": 7}
    first = optuna.create_study(sampler=worker_sampler(config, SPACE))
    dead = first.ask()
    rate = dead.suggest_float("lr", 1e-4, 1e-2, log=True)
    first._storage.set_trial_state_values(dead._trial_id, optuna.trial.TrialState.WAITING)
    first.sampler = worker_sampler(config, SPACE)
    assert first.ask().number == 0
    assert asked(first, 1)[0]["lr"] != rate


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "optuna.pruners.WilcoxonPruner"},
        {
            "_target_": "optuna.pruners.PatientPruner",
            "patience": 1,
            "wrapped_pruner": {"_target_": "optuna.pruners.WilcoxonPruner"},
        },
    ],
)
def test_wilcoxon_is_refused_with_the_reason(config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"epochs of a training are not.*choose halving") as caught:
        build_pruner(config, objectives=1)
    assert "\n" not in str(caught.value)


def test_a_seeded_sampler_passes_on_what_the_study_tells_it() -> None:
    told: list[str] = []

    class Told(optuna.samplers.RandomSampler):
        def after_trial(self, *arguments: Any) -> None:
            told.append("after")

        def reseed_rng(self) -> None:
            told.append("reseed")

    study = optuna.create_study(sampler=LevelSampler(Told, (), 3))
    asked(study, 1)
    study.sampler.reseed_rng()
    assert told == ["after", "reseed"]


class Stubborn(optuna.samplers.RandomSampler):
    """Always proposes the edge of the space."""

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {"lr": SPACE.dimensions[0].distribution}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {"lr": 1e-2}


def test_a_point_is_begun_once_in_an_infinite_space_too() -> None:
    """Else a search would begin it for ever, as what repeats a trial is none of the budget."""
    space = Space(SPACE.dimensions[:1])
    study = optuna.create_study(sampler=Stubborn(seed=0))
    counts = Counts("here")
    found = []
    for _ in range(4):
        trial = private.begin(study, {})
        trial, (values, seed) = proposed(study, trial, space, counts, None)
        trial.set_user_attr(POINT, point_name(values, seed))
        suggest(trial, space, values)
        study.tell(trial, 1.0)
        counts.update(study.trials)
        found.append(trial.params["lr"])
    assert found[0] == 1e-2
    assert len(set(found)) == 4
