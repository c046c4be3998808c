"""Trials' configs that are made from one kept config are those that Hydra would compose."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps.space.loader import SweepLoader
from tests.hydra_multirun import multirun_config


@pytest.fixture(scope="module")
def loaded() -> tuple[SweepLoader, Any]:
    loader, config = multirun_config("loss=mse,ssim", "lr=1e-3,3e-4")
    assert isinstance(loader, SweepLoader)
    return loader, config


def content(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def refusal(load: Any, *arguments: Any) -> str:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        load(*arguments)
    return f"{type(caught.value).__name__}: {caught.value}; {caught.value.__cause__}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["lr=1e-3"],
        ["loss.window_size=7", "loss=ssim", "seed=3"],
        ["experiments=quick", "lr=2", "lr=3"],
        ["loss=mix", "loss.terms=[mse,ssim]", "loss.weights=[1,0.2]"],
        ["logger.tags=[a,b]", "data.root='a=b, c'", "data=images"],
        ["name=other", "lr=1", "data.cache_dir=x"],
        ["+loss.options={a: 1}", "loss.options.a=2", "loss=custom"],
        ["++new.key=1", "~new.key", "kl.free_bits=1", "beta=2"],
        ["data.root='${oc.env:USER,me}'", "beta=2"],
        ["beta=${lr}", "lr=2"],
        ["++new.key=1", "optimizer.warmup_steps=null"],
        [],
    ],
    ids=str,
)
def test_a_trials_config_is_the_one_that_hydra_composes(
    loaded: tuple[SweepLoader, Any], overrides: list[str]
) -> None:
    loader, master = loaded
    expected = content(ConfigLoaderImpl.load_sweep_config(loader, master, overrides))
    for _ in range(2):  # composed, and from what was kept
        config = loader.load_sweep_config(master, overrides)
        assert content(config) == expected
        config.seed = 1000  # of this trial alone
        config.hydra.overrides.task.append("seed=1000")
        config.logger.tags = ["mine"]


@pytest.mark.parametrize(
    "overrides",
    [["lr=much"], ["absent=1"], ["loss=mse", "loss.window_size=7"], ["loss=sim", "lr=1"],
     ["seed=1", "lr.x=2"], ["kl=1"], ["lr=1,2"], ["lr=interval(0,1)"], ["absent=1", "loss=sim"]],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_refused_in_hydras_words(
    loaded: tuple[SweepLoader, Any], overrides: list[str]
) -> None:
    loader, master = loaded
    hydras = refusal(ConfigLoaderImpl.load_sweep_config, loader, master, overrides)
    assert refusal(loader.load_sweep_config, master, overrides) == hydras


def test_a_worker_gets_the_loader_without_what_it_keeps(loaded: tuple[SweepLoader, Any]) -> None:
    loader, master = loaded
    small = len(pickle.dumps(loader))
    for name in ("quick", "photos"):
        loader.load_sweep_config(master, [f"experiments={name}", "lr=1"])
    assert len(pickle.dumps(loader)) == small
    again = pickle.loads(pickle.dumps(loader))
    assert content(again.load_sweep_config(master, ["lr=2"])) == content(
        loader.load_sweep_config(master, ["lr=2"])
    )


def test_another_sweeps_config_is_composed_anew(loaded: tuple[SweepLoader, Any]) -> None:
    loader, master = loaded
    other = master.copy()
    other.hydra.overrides.hydra.append("hydra.verbose=true")
    other.hydra.sweeper = master.hydra.sweeper
    assert not loader.load_sweep_config(master, ["lr=1"]).hydra.verbose
    assert loader.load_sweep_config(other, ["lr=1"]).hydra.verbose
