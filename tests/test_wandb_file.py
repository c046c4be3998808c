"""W&B sweep files run by our own sweeper: what they say, what wins, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import sweeps
from experiments.errors import UserError
from experiments.record.identity import relevant
from sweeps.space.composing import Composer
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.wandb import file as wandb_file
from tests.conftest import ROOT, TINY, Compose
from tests.hydra_multirun import multirun_config
from tests.simulated import SimulatedTask
from tests.test_wandb_agent import FILES
from tests.waiting import PATIENCE
from tests.wandb_server import ENTITY, WandbServer

BASE = {
    "program": "run.py",
    "method": "random",
    "metric": {"name": "objective", "goal": "maximize"},
    "parameters": {"lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}},
}

Applied = Callable[..., tuple[list[str], Any, Space]]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """The path of a sweep file; a key that is None is left out."""

    def write(**changes: Any) -> str:
        path = tmp_path / "mine.yaml"
        content = {k: v for k, v in (BASE | changes).items() if v is not None}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def applied(written: Callable[..., str]) -> Applied:
    """The overrides, the config and the space of a command with a sweep file."""

    def apply(*arguments: str, **changes: Any) -> tuple[list[str], Any, Space]:
        loader, config = multirun_config(
            "sweep=wandb", f"sweep.file={written(**changes)}", *arguments
        )
        assert wandb_file.is_named(config)
        overrides, composed, below = wandb_file.applied(config, loader)
        space = Composer(loader, composed).space({}, overrides, {}, below)
        return overrides, composed, space

    return apply


def test_a_file_sets_what_it_names(applied: Applied) -> None:
    overrides, config, space = applied(
        name="my search",
        project="cats",
        entity="team",
        method="bayes",
        run_cap=7,
        metric={"name": "val/l1"},
        early_terminate={"type": "hyperband", "max_iter": 27, "s": 2, "eta": 2, "strict": True},
        command=["${env}", "${interpreter}", "run.py", "beta=2", "data.flip=true", "${args}"],
        parameters=BASE["parameters"] | {"beta": {"value": 0.5}},  # type: ignore[operator]
    )
    assert (config.name, config.objective, config.beta) == ("my search", "l1", 0.5)
    assert (config.logger.project, config.logger.entity) == ("cats", "team")
    assert config.data.flip is True
    assert str(config.hydra.sweep.dir) == "outputs/my search/sweep"
    sweeper = config.hydra.sweeper
    assert (sweeper.n_trials, sweeper.study_name) == (7, "my search")
    assert sweeper.sampler._target_.endswith("GPSampler")
    pruner = sweeper.pruner
    assert (pruner._target_, pruner.max_iter, pruner.s) == ("sweeps.search.bands.BandPruner", 27, 2)
    assert (pruner.eta, pruner.strict, pruner.best_so_far) == (2, True, False)
    assert [d.key for d in space.dimensions] == ["lr"]
    assert "beta=0.5" in overrides
    assert "beta=2" not in overrides, "the agent puts parameters last"


@pytest.mark.slow
def test_the_command_line_wins_over_the_file(applied: Applied) -> None:
    _, config, space = applied(
        "name=other",
        "objective=l1",
        "hydra.sweeper.n_trials=3",
        "hydra/sweeper/sampler=qmc",
        "hydra/sweeper/pruner=median",
        "lr=1e-3",
        "latent_dim=8,16",
        "logger.project=here",
        run_cap=7,
        metric={"name": "val/psnr", "goal": "maximize"},
        early_terminate={"type": "hyperband", "min_iter": 2},
        project="cats",
        parameters=BASE["parameters"] | {"beta": {"min": 0.5, "max": 2.0}},  # type: ignore[operator]
    )
    assert (config.name, config.objective, config.logger.project) == ("other", "l1", "here")
    assert config.hydra.sweeper.n_trials == 3
    assert config.hydra.sweeper.sampler._target_.endswith("QMCSampler")
    assert config.hydra.sweeper.pruner._target_.endswith("MedianPruner")
    assert [d.key for d in space.dimensions] == ["beta", "latent_dim"]
    assert "lr=1e-3" in [f.text for f in space.fixed]
    eta = ["hydra/sweeper/pruner=bands", "hydra.sweeper.pruner.eta=5"]
    _, config, _ = applied(*eta, early_terminate={"type": "hyperband", "min_iter": 2})
    assert (config.hydra.sweeper.pruner.eta, config.hydra.sweeper.pruner.min_iter) == (5, 2)
    assert config.hydra.sweeper.pruner.best_so_far is True, "objective is the best so far"


@pytest.mark.slow
def test_saved_experiments_and_seeds_go_with_a_file(applied: Applied) -> None:
    _, config, space = applied(
        "experiments=quick", parameters={"seed": {"values": [1, 2]}, "loss": {"values": ["l1"]}}
    )
    assert config.max_epochs == multirun_config("experiments=quick")[1].max_epochs
    assert (config.name, space.seeds) == ("mine", (1, 2)), "without a name it is the file's"
    assert applied("seed=5", parameters={"seed": {"values": [1, 2]}})[2].seeds == (5,)
    assert applied("seed=5,6", parameters={"seed": {"values": [1, 2]}})[2].seeds == (5, 6)


@pytest.mark.slow
def test_a_variable_of_the_environment_is_that_of_the_command(
    applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["python3", "${program}", "data=images", "data.root=${envvar:PHOTOS}", "${args}"]
    with pytest.raises(UserError, match="must name variables that are set, but PHOTOS is not"):
        applied(command=command)
    monkeypatch.setenv("PHOTOS", "my/photos")
    assert applied(command=command, program="./run.py")[1].data.root == "my/photos"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["${env}", "${interpreter}", "${program}", "beta=2", "${args}"],
        ["/usr/bin/env", "python3.12", "-u", "run.py", "${args_no_hyphens}", "beta=2"],
        ["python", "-uB", "-O", "run.py", "beta=2", "${args_no_equals}"],
        ["python", "-W", "ignore", "-Xdev", "run.py", "beta=2", "${args_no_hyphens}"],
        ["./run.py", "${args_json}", "beta=2"],
        ["python", "run.py", "${args_json_file}", "beta=2", "${args_no_boolean_flags}"],
        ["python", "run.py", "${args_append_hydra}", "beta=2", "${args_override_hydra}"],
    ],
)
def test_a_command_may_start_us_in_every_way_that_wandb_documents(
    applied: Applied, command: list[str]
) -> None:
    overrides, config, _ = applied(command=command)
    assert config.beta == 2
    assert not any("args" in text for text in overrides)


@pytest.mark.slow
def test_what_a_command_says_of_the_environment_is_left_out_and_said(
    applied: Applied, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEY", "secret")
    before = dict(os.environ)
    words = ["OMP_NUM_THREADS=1", "WANDB_API_KEY=${envvar:KEY}", "PYTHONUNBUFFERED=1"]
    _, config, _ = applied(command=["${env}", *words, "python", "run.py", "beta=2", "${args}"])
    assert config.beta == 2
    assert dict(os.environ) == before
    assert "sets OMP_NUM_THREADS, WANDB_API_KEY, PYTHONUNBUFFERED, which is left out" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.slow
def test_a_constant_of_one_of_several_losses_holds_for_those_that_have_it(
    applied: Applied,
) -> None:
    parameters = {"loss": {"values": ["mse", "ssim"]}, "loss.window_size": {"value": 7}}
    _, _, space = applied(parameters=parameters)
    cells = [space.overrides(*cell) for cell in Grid(space)]
    assert {
        next(text for text in cell if text.startswith("loss=")): "loss.window_size=7" in cell
        for cell in cells
    } == {"loss=mse": False, "loss=ssim": True}
    nested = {
        "loss": {"values": ["custom", "mse"]},
        "loss.options": {"parameters": {"a": {"value": 1}}},
    }
    with pytest.raises(UserError, match=r"`loss\.options\.a` is not a key .* loss=custom,mse"):
        applied(parameters=nested)


def test_without_a_file_nothing_changes() -> None:
    assert not wandb_file.is_named(multirun_config("loss=mse,ssim")[1])
    loader, config = multirun_config("sweep=wandb")
    with pytest.raises(UserError, match=r"`sweep=wandb` must have sweep.file=PATH.* got none"):
        wandb_file.applied(config, loader)


@pytest.mark.slow
@pytest.mark.parametrize("files", ["a.yaml,b.yaml", "choice(a.yaml)"])
def test_one_command_is_for_one_file(files: str) -> None:
    loader, config = multirun_config("sweep=wandb", f"sweep.file={files}")
    with pytest.raises(UserError, match=r"one W&B sweep file a command, but got sweep.file="):
        wandb_file.applied(config, loader)
    with pytest.raises(UserError, match=r"`sweep.file` cannot be swept: .*one command for each"):
        Composer(*multirun_config()).space({}, ["sweep.file=a.yaml,b.yaml"], {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "hyperopt"}, "`method` must be one of grid, random, bayes, but got 'hyperopt'"),
        ({"method": None}, "`method` must be one of"),
        ({"method": "custom"}, "`method` must be one of"),
        ({"parameters": None}, "`parameters` must say what is searched"),
        ({"parameters": {"lr": {"min": 2.0, "max": 1.0}}}, "lr.min` must be at most max"),
        ({"methods": "grid"}, "must have keys of command, early_terminate, .* but got 'methods'"),
        ({"scheduler": {"engine": "ax"}}, "`scheduler` cannot be honoured"),
        ({"metrics": []}, r"`metrics` cannot be honoured .* objective=\[psnr,ms_ssim\]"),
        ({"job": "x"}, "`job` cannot be honoured"),
        ({"name": 5}, "`name` must be a text, but got 5"),
        ({"run_cap": 0}, "`run_cap` must be an integer of 1 or more, but got 0"),
        ({"metric": {"goal": "maximize"}}, "`metric` must have a name and a goal"),
        ({"metric": {"name": "val_loss"}}, "`metric.name` must be objective .* but got 'val_loss'"),
        ({"metric": {"name": "val/psmr"}}, "`metric.name` must be objective"),
        ({"metric": {"name": "objective"}}, "goal` must be maximize for psnr, but got minimize"),
        ({"metric": {"name": "val/l1", "goal": "maximize"}}, "goal` must be minimize for l1"),
        ({"metric": {"name": "objective", "goal": "max"}}, "`metric.goal` must be maximize or min"),
        ({"metric": {"name": "val/l1", "target": 0.1}}, "`metric.target` cannot be honoured"),
        ({"metric": {"name": "val/l1", "impute": "best"}}, "`metric.impute` cannot be honoured"),
        ({"method": "bayes", "metric": None}, "`metric` must be there for method: bayes"),
        ({"early_terminate": {"type": "envelope"}}, "must be of type: hyperband"),
        ({"early_terminate": {"type": "hyperband", "iter": 3}}, "may have eta and strict, but"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 3}, "metric": None},
            "`metric` must be there for early_terminate",
        ),
        ({"program": "train.py"}, r"`command` must start run.py .* but got"),
        ({"command": ["python", "train.py", "${args}"]}, "`command` must start run.py"),
        ({"command": []}, "`command` must be a list"),
        ({"command": ["python", "run.py", "-m", "${args}"]}, "got '-m': it is another macro or an"),
        ({"command": ["python", "run.py", "${args_x}"]}, "it is another macro or an option"),
        ({"command": ["torchrun", "run.py", "${args}"]}, "run.py and nothing else .*torchrun"),
        ({"command": ["uv", "run", "run.py"]}, "start run.py and nothing else"),
        ({"command": ["python", "-c", "run.py"]}, "and nothing else .*'-c'"),
        ({"command": ["python", "-m", "run", "run.py"]}, "and nothing else .*'-m'"),
        ({"command": ["${env}", "-S", "x", "run.py"]}, "start run.py and nothing else .*'-S'"),
        ({"command": ["${env}", "PYTHONPATH=secret", "run.py"]}, r"is loaded, .*PYTHONPATH=\.\.\."),
        ({"command": ["${env}", "LD_PRELOAD=secret", "run.py"]}, r"is loaded, .*LD_PRELOAD=\.\.\."),
        ({"command": ["env", "VAESWEEP_TRUST=secret", "run.py"]}, r"VAESWEEP_TRUST=\.\.\.; leave"),
        ({"command": ["python", "run.py", "data.root=größe"]}, """data.root="größe"'"""),
        ({"command": ["python", "run.py", "lr=1,2"]}, "several values, which belong under `param"),
        ({"command": ["python", "run.py", "hydra.job.chdir=1"]}, "give it on the command line"),
        ({"command": ["python", "run.py", "lr=[1"]}, r"must hold KEY=VALUE and .* got 'lr=\[1'"),
        ({"parameters": {"latent_dim": {"min": 8.0, "max": 128.0}}}, "`latent_dim` must be a who"),
        ({"parameters": {"name": {"values": ["a", "b"]}}}, "`parameters.name` cannot be searched"),
        ({"parameters": {"objective": {"values": ["l1"]}}}, "`parameters.objective` cannot be"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(
    applied: Applied, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        applied(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "must be YAML that can be read"), ("- a", "must hold keys, but got"), ("", "keys")],
)
def test_what_is_no_sweep_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    for found, rule in ((path, message), (tmp_path / "absent.yaml", "must be YAML")):
        loader, config = multirun_config("sweep=wandb", f"sweep.file={found}")
        with pytest.raises(UserError, match=rf"{found}: a W&B sweep file .*{rule}|{rule}"):
            wandb_file.applied(config, loader)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_trial_is_the_one_that_wandb_agent_would_begin(path: Path, compose: Compose) -> None:
    """As the agent's arguments are read, so is what the sweeper composes."""
    loader, config = multirun_config("sweep=wandb", f"sweep.file={path}")
    overrides, composed, below = wandb_file.applied(config, loader)
    composer = Composer(loader, composed)
    space = composer.space({}, overrides, {}, below)
    file = yaml.safe_load(path.read_text())
    assert [d.key for d in space.dimensions] == [k for k in file["parameters"] if k != "seed"]
    values = space.fill(lambda d: getattr(d.distribution, "low", None) or d.values()[0])
    seed = space.seeds[0] if space.seeds else None
    ours = composer.plain(space.overrides(values, seed))
    agents = [f"{key}={value}" for key, value in values.items()]
    agents += [] if seed is None else [f"seed={seed}"]
    assert relevant(ours) == relevant(compose(*file["command"][3:-1], *agents))


# Through the sweeper


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., sweeps.run]:  # type: ignore[valid-type]
    """A sweep of trials that only pretend to train, four epochs each, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        task = SimulatedTask(log=str(tmp_path / "log"), epochs=4)
        settings = ["report=none", "hydra.sweeper.n_jobs=0", "sweep=wandb"]
        return sweeps.run([*settings, *arguments], task=task)

    return run


def begun(tmp_path: Path) -> list[dict[str, str]]:
    """The overrides of each trial that was begun."""
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    return [dict(text.split("=", 1) for text in line[2:]) for line in lines if line[1] == "begin"]


@pytest.mark.slow
def test_the_grid_of_a_file_is_run_once_and_not_again(tmp_path: Path, simulated: Any) -> None:
    arguments = [f"sweep.file={ROOT / 'sweeps/wandb/losses.yaml'}", "latent_dim=16", "seed=0,1"]
    sweep = simulated(*arguments)
    assert sweep.directory == tmp_path / "outputs/losses/sweep"
    cells = {(t["loss"], t["seed"]) for t in begun(tmp_path)}
    assert len(cells) == len(begun(tmp_path)) == len(sweep.study.trials) == 10
    assert {trial.state.name for trial in sweep.study.trials} == {"COMPLETE"}
    simulated(*arguments)
    assert len(begun(tmp_path)) == 10


@pytest.mark.slow
def test_the_search_of_a_file_ends_bad_trials_early_and_goes_on_where_it_was(
    tmp_path: Path, simulated: Any
) -> None:
    path = f"sweep.file={ROOT / 'sweeps/wandb/search.yaml'}"
    arguments = [path, "hydra.sweeper.sampler.seed=1"]
    sweep = simulated(*arguments, "hydra.sweeper.n_trials=8")
    states = [trial.state.name for trial in sweep.study.trials]
    assert len(states) == 8
    assert {"COMPLETE", "PRUNED"} == set(states)
    pruned = [t for t in sweep.study.trials if t.state.name == "PRUNED"]
    assert {max(t.intermediate_values) for t in pruned} == {3}, "at min_iter validations"
    sweep = simulated(*arguments, "hydra.sweeper.n_trials=10")
    assert len(sweep.study.trials) == len(begun(tmp_path)) == 10


@pytest.mark.slow
def test_a_random_search_draws_from_what_only_wandb_has(
    tmp_path: Path, simulated: Any, written: Callable[..., str]
) -> None:
    parameters = {
        "lr": {"distribution": "log_normal", "mu": -7, "sigma": 0.5},
        "latent_dim": {"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8},
        "loss": {"values": ["mse", "l1"], "probabilities": [1.0, 0.0]},
        "kl": {"parameters": {"free_bits": {"distribution": "beta", "a": 2, "b": 2}}},
    }
    path = written(parameters=parameters, run_cap=6)
    sweep = simulated(f"sweep.file={path}", "hydra.sweeper.sampler.seed=1")
    found = begun(tmp_path)
    assert len(found) == 6
    assert {t["loss"] for t in found} == {"mse"}
    assert {int(t["latent_dim"]) % 8 for t in found} == {0}
    stored = [trial.params for trial in sweep.study.trials]
    for trial, params in zip(found, stored, strict=True):
        assert float(trial["lr"]) == params["lr"]
        assert 0 < params["kl.free_bits"] < 1
    with pytest.raises(UserError, match=r"sampler` must be random where `lr` is drawn from log_n"):
        simulated(f"sweep.file={path}", "hydra/sweeper/sampler=tpe")
    with pytest.raises(UserError, match=r"run_cap` in a W&B sweep file\) must be the number of"):
        simulated(f"sweep.file={ROOT / 'sweeps/wandb/losses.yaml'}", "hydra.sweeper.n_trials=5")


@pytest.mark.slow
@pytest.mark.trains
def test_runs_of_a_file_are_offline_and_come_under_one_group_later(
    wandb_server: WandbServer,
    written: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from experiments.sync import sync

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = written(
        method="grid",
        name="together",
        project="mine",
        command=["${env}", "${interpreter}", "run.py", *TINY, "logger=wandb", "${args_no_hyphens}"],
        parameters={"loss": {"values": ["mse", "l1"]}, "lr": {"value": 1e-3}},
    )
    settings = ["report=none", "hydra.sweeper.n_jobs=0", "evaluation.test=false"]
    sweep = sweeps.run(["sweep=wandb", f"sweep.file={path}", *settings])
    assert wandb_server.runs == {}
    monkeypatch.delenv("WANDB_MODE")
    assert sync([sweep.directory], everything=False, seconds=PATIENCE) == (2, [])
    runs = list(wandb_server.runs.values())
    assert {(run.entity, run.project, run.group) for run in runs} == {(ENTITY, "mine", "together")}
    assert {run.config["loss"]["name"] for run in runs} == {"mse", "l1"}
    assert {run.summary["status"] for run in runs} == {"completed"}
