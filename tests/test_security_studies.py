"""A study that is somebody else's is read, and runs nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from experiments.errors import UserError
from sweeps.search.pruners import build_pruner
from sweeps.search.samplers import worker_sampler
from sweeps.space.dimensions import Space
from sweeps.wandb.file import read

CMAES = {"_target_": "optuna.samplers.CmaEsSampler", "seed": 0, "n_startup_trials": 1}


class Touches:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", -1, 1) ** 2


def values(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("options", [{}, {"use_separable_cma": True}, {"with_margin": True}])
def test_cma_es_searches_as_optunas_does(options: dict[str, Any]) -> None:
    built = worker_sampler({**CMAES, **options}, Space(()))._build(0)
    ours = optuna.create_study(sampler=built)
    theirs = optuna.create_study(
        sampler=optuna.samplers.CmaEsSampler(seed=0, n_startup_trials=1, **options)
    )
    for study in (ours, theirs):
        study.optimize(objective, n_trials=20)
    assert values(ours) == values(theirs)


def test_the_state_of_cma_es_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    honest = optuna.create_study(sampler=worker_sampler(CMAES, Space(())))
    honest.optimize(objective, n_trials=12)
    (key,) = {k for t in honest.trials for k in t.system_attrs if k.endswith("optimizer:0")}
    foreign = optuna.create_study()
    for trial in honest.trials:
        content = {**trial.system_attrs, key: pickle.dumps(Touches(mark)).hex()}
        foreign.add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=trial.value,
                system_attrs=content,
            )
        )
    foreign.sampler = worker_sampler(CMAES, Space(()))
    with pytest.raises(UserError, match="nothing of it was run"):
        foreign.optimize(objective, n_trials=1)
    assert not mark.exists()
    foreign.sampler = optuna.samplers.CmaEsSampler(n_startup_trials=1)
    foreign.optimize(objective, n_trials=1)
    assert mark.exists()  # so that the test would notice


@pytest.mark.parametrize("target", ["os.mkdir", "optuna.samplers._cmaes.pickle.loads"])
def test_a_sampler_or_pruner_is_one_of_optunas(tmp_path: Path, target: str) -> None:
    mark = tmp_path / "mark"
    options = {"_target_": target, "path": str(mark)}
    with pytest.raises(UserError, match=r"`hydra/sweeper/sampler` must be of optuna\.samplers"):
        worker_sampler(options, Space(()))
    with pytest.raises(UserError, match=r"`hydra/sweeper/pruner` must be of optuna\.samplers"):
        build_pruner(options, objectives=1)
    assert not mark.exists()


FILE = {"program": "run.py", "method": "grid", "parameters": {"lr": {"values": [1e-3, 1e-2]}}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"parameters": {"hydra.job.env_set.LD_PRELOAD": {"value": "x"}}}, "env_set"),
        ({"parameters": {"data.cache_dir": {"values": ["/x", "/y"]}}}, r"data\.cache_dir"),
        ({"parameters": {"data": {"parameters": {"cache_dir": {"value": "/x"}}}}}, "cache_dir"),
        ({"command": ["${program}", "name=${envvar:SECRET}", "${args}"]}, "may be a secret"),
        ({"parameters": {"name": {"value": "${oc.env:SECRET}"}}}, "may be a secret|name"),
        ({"command": ["${program}", "data.cache_dir=/x", "${args}"]}, r"data\.cache_dir"),
    ],
)
def test_a_wandb_sweep_file_says_what_a_trial_is_and_no_more(
    said: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(FILE | said))
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert "hunter2" not in str(error.value)
