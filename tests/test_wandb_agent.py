"""`wandb sweep` and `wandb agent` drive `run.py`: what they pass on, and the real tools."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.load import load
from experiments.errors import UserError
from experiments.record import read_config, read_history, read_result
from sweeps.wandb import agent
from tests.conftest import ROOT, TINY, Compose, isolated_wandb
from tests.waiting import PATIENCE
from tests.wandb_server import ENTITY, Sweep, WandbServer, run_wandb_server

TOOL = str(Path(sys.executable).with_name("wandb"))
FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))


@pytest.fixture
def passed_on(tmp_path: Path) -> Any:
    """The overrides that become of a sweep's parameters, as the real agent writes them."""

    def overrides(parameters: dict[str, Any], prefix: str = "") -> list[str]:
        path = tmp_path / "config.yaml"
        values = {key: {"value": value} for key, value in parameters.items()}
        path.write_text("wandb_version: 1\n\n" + yaml.safe_dump(values, sort_keys=False))
        environment = {"WANDB_SWEEP_ID": "s", "WANDB_SWEEP_PARAM_PATH": str(path)}
        return agent.overrides([f"{prefix}{k}={v}" for k, v in parameters.items()], environment)

    return overrides


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.early_stopping_patience", None),
        ("logger.entity", None),
        ("data.flip", True),
        ("lr", 1e-05),
        ("data.root", "photos, of 'cats'/new"),
        ("data.root", "back\\slash\\"),
        ("data.root", "not [an, {override}] = 'it\\'s'"),
        ("data.root", "null"),
        ("data.root", " spaces "),
        ("logger.tags", ["a", "b, c", "null"]),
        ("logger.tags", []),
        ("objective", ["psnr", "ms_ssim"]),
    ],
)
def test_every_value_of_a_sweep_survives(
    passed_on: Any, compose: Compose, key: str, value: Any
) -> None:
    others = ["data=images"] if key == "data.root" else []
    config: Any = compose(*others, *passed_on({key: value}))
    for part in key.split("."):
        config = config[part]
    assert config == value


def test_a_whole_number_that_the_search_made_a_float_is_whole(
    passed_on: Any, compose: Compose
) -> None:
    assert compose(*passed_on({"latent_dim": 16.0}))["latent_dim"] == 16
    with pytest.raises(Exception, match=r"latent_dim=16.5"):
        compose(*passed_on({"latent_dim": 16.5}))


def test_nested_parameters_and_the_default_command_are_understood(
    passed_on: Any, compose: Compose
) -> None:
    found = passed_on({"optimizer": {"schedule": "cosine", "ema_decay": None}}, prefix="--")
    assert found == ["optimizer.schedule=cosine", "optimizer.ema_decay=null"]
    assert compose(*found)["optimizer"]["schedule"] == "cosine"


def test_without_an_agent_arguments_are_left_alone() -> None:
    assert agent.overrides(["--help", "lr=None", "a=b"], {}) == ["--help", "lr=None", "a=b"]


def test_a_file_of_parameters_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    environment = {"WANDB_SWEEP_ID": "s", "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "gone")}
    with pytest.raises(UserError, match=r"WANDB_SWEEP_PARAM_PATH.*gone cannot be read"):
        agent.overrides(["lr=1"], environment)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_trial_of_the_sweep_files_has_a_valid_config(
    path: Path, passed_on: Any, compose: Compose
) -> None:
    sweep = Sweep(ENTITY, "vaesweep", "s", path.read_text())
    config = yaml.safe_load(path.read_text())
    assert config["metric"]["name"] == "objective"
    fixed = config["command"][3:-1]
    assert config["command"][:3] == ["${env}", "${interpreter}", "run.py"]
    assert config["command"][-1] == "${args_no_hyphens}"
    for arguments in sweep.waiting:
        composed = compose(*fixed, *passed_on(arguments))
        assert composed["name"] == path.stem
        assert composed["latent_dim"] == arguments["latent_dim"]


# The real tools


LONG = {
    "name": "long",
    "max_epochs": 100000,
    "trainer.early_stopping_patience": None,
    "loss": "mse",
}
HANDED_OUT: list[dict[str, Any]] = [
    LONG,
    {"name": "a, b", "logger.tags": ["x", "y, z"], "trainer.early_stopping_patience": None},
    {"name": "refused", "loss.scale": "wrong"},
    {"name": "grouped", "loss": "l1", "data.flip": True, "latent_dim": 4.0},
]


class Scene:
    """Two agents on one sweep, after they have ended."""

    def __init__(self, server: WandbServer, sweep: Sweep, directory: Path) -> None:
        self.server, self.sweep, self.directory = server, sweep, directory

    def run_id(self, name: str) -> str:
        (found,) = (i for i, args in self.sweep.runs.items() if args["name"] == name)
        return found

    def has_begun(self, name: str) -> bool:
        runs = [self.server.runs.get(i) for i, a in self.sweep.runs.items() if a["name"] == name]
        return any(run is not None and run.metrics("val/psnr") for run in runs)

    def record(self, name: str) -> Path:
        (result,) = (self.directory / "outputs" / name).rglob("result.json")
        return result.parent


@contextmanager
def agents(count: int, sweep: Sweep, directory: Path, environment: Any) -> Iterator[None]:
    """Agents that end when the sweep does; where the test fails, they end their trials as well."""
    command = [TOOL, "agent", f"{ENTITY}/vaesweep/{sweep.id}"]
    processes = [subprocess.Popen(command, cwd=directory, env=environment) for _ in range(count)]
    try:
        yield
        codes = [process.wait(PATIENCE) for process in processes]
        assert codes == [0] * count
    finally:
        sweep.state = "CANCELED"
        for process in processes:
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("agents")
    config = yaml.safe_load((ROOT / "sweeps" / "wandb" / "losses.yaml").read_text())
    command = [str(ROOT / "run.py") if part == "run.py" else part for part in config["command"]]
    small = [*TINY, "logger=wandb", "trainer.early_stopping_patience=5", "name=x"]
    config["command"] = [*command[:3], *small, command[-1]]
    (directory / "losses.yaml").write_text(yaml.safe_dump(config))
    with run_wandb_server() as server:
        environment = isolated_wandb(directory) | server.environment
        environment |= {
            "PATH": f"{Path(TOOL).parent}{os.pathsep}{environment['PATH']}",
            "WANDB_AGENT_DISABLE_FLAPPING": "true",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "OMP_NUM_THREADS": "1",
        }
        subprocess.run([TOOL, "sweep", "losses.yaml"], cwd=directory, env=environment, check=True)
        (sweep,) = server.sweeps.values()
        assert len(sweep.waiting) == 30
        sweep.waiting = [dict(arguments) for arguments in HANDED_OUT]
        scene = Scene(server, sweep, directory)
        with agents(2, sweep, directory, environment):
            server.wait_for(lambda: scene.has_begun("long"))
            server.stop_run(scene.run_id("long"))
        yield scene


@pytest.mark.slow
def test_two_agents_train_every_trial_of_a_sweep_once(scene: Scene) -> None:
    assert len(scene.server.runs) == len(scene.sweep.runs) == len(HANDED_OUT)
    assert {report["agent"] for report in scene.sweep.reports} == {"agent-0", "agent-1"}
    assert all(run.sweep == scene.sweep.id for run in scene.server.runs.values())
    for name in ("a, b", "grouped"):
        run = scene.server.runs[scene.run_id(name)]
        assert (run.state, run.summary["status"], run.group) == ("finished", "completed", name)
        record = read_result(scene.record(name))
        assert record["wandb"]["id"] == run.id
        assert run.summary["objective"] == record["metrics"]["val"]["psnr"]
        assert list(record["metrics"]) == ["val"]  # as in any sweep
        assert run.metrics("objective")


@pytest.mark.slow
def test_a_trial_is_the_one_that_the_sweep_asked_for(scene: Scene) -> None:
    config = read_config(scene.record("a, b"))
    assert config["logger"]["tags"] == ["x", "y, z"]
    assert config["trainer"]["early_stopping_patience"] is None
    config = read_config(scene.record("grouped"))
    assert (config["loss"]["name"], config["data"]["flip"]) == ("l1", True)
    run = scene.server.runs[scene.run_id("grouped")]
    assert (run.config["loss"], run.config["loss.name"], run.config["latent_dim"]) == (
        "l1",
        "l1",
        4,
    )


@pytest.mark.slow
def test_a_trial_that_is_refused_is_a_failed_run_with_its_reason(scene: Scene) -> None:
    run = scene.server.runs[scene.run_id("refused")]
    assert (run.state, run.exit_code, run.summary["status"]) == ("failed", 1, "failed")
    assert "`loss.scale` must be one of" in run.summary["reason"]


@pytest.mark.slow
def test_a_trial_that_the_sweep_stops_ends_in_order_with_its_rows_delivered(scene: Scene) -> None:
    run = scene.server.runs[scene.run_id("long")]
    assert (run.state, run.summary["status"]) == ("failed", "interrupted")
    assert run.summary["reason"] == "by the system"
    record = scene.record("long")
    assert read_result(record)["status"] == "interrupted"
    rows = [row["step"] - 1 for row in read_history(record)]
    assert [step for step, _ in run.metrics("trainer/global_step", "val/psnr")] == rows


@pytest.mark.slow
def test_a_sweep_is_loaded_with_its_trials(
    scene: Scene, wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in scene.server.environment.items():
        monkeypatch.setenv(name, value)
    runs = load(f"wandb://{ENTITY}/vaesweep/sweeps/{scene.sweep.id}")
    assert [broken.reason for broken in runs.broken] == [
        "its config names no loss (loss.name), so it is no run of vaesweep"
    ]  # that of the trial that was refused
    own = load(*(scene.record(name) for name in ("long", "a, b", "grouped")))
    columns = ["sweep", "status", "loss.name", "latent_dim", "seed"]
    found = runs.trials.sort_values("sweep")[columns].to_numpy().tolist()
    expected = own.trials.assign(sweep=own.trials["name"]).sort_values("sweep")[columns]
    assert found == expected.to_numpy().tolist()
