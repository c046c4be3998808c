"""A little of what a command trains or searches, with its own words."""

from __future__ import annotations

import os
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TINY
from tests.hydra_multirun import multirun_config
from tests.places import Place
from tests.shipping import VARIABLES
from tests.shown import ROOT

_BUDGET = ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=0", "sweep.confirm=0", "report=none"]


def run_py(
    overrides: Sequence[str], place: Place, monkeypatch: pytest.MonkeyPatch, *, multirun: bool
) -> None:
    """Train, in this process, what `python run.py` trains with these overrides, a little of it."""
    given = [_with_variables(word) for word in overrides]
    place.provide(given)
    monkeypatch.chdir(place.folder)
    small = [*given, *budget(given)]
    if multirun:
        _sweep(small)
    else:
        _trial(small, place.folder / "outputs")


def composes(overrides: Sequence[str], *, multirun: bool) -> None:
    """Every value of a search, or the config of a trial, as far as that is known before it runs."""
    from experiments import config as configs
    from experiments.cli.grammar import readable_conditions
    from sweeps import settings
    from sweeps.space.composing import Composer
    from sweeps.space.jobs import without_hydra

    given = readable_conditions([_with_variables(word) for word in overrides])
    if not multirun:
        loader, config = multirun_config(*given)
        configs.plain(without_hydra(loader.load_sweep_config(config, _task_overrides(config))))
        return
    loader, config = multirun_config(*given)
    found = settings.read(_plain(config.hydra.sweeper), _plain(config.sweep))
    composer = Composer(loader, config)
    space = composer.space(found.params, _task_overrides(config), found.conditions)
    assert space.dimensions or space.seeds
    composer.check(space)


def _task_overrides(config: Any) -> list[str]:
    return list(config.hydra.overrides.task)


def budget(overrides: Sequence[str]) -> list[str]:
    """Overrides that make a command a matter of seconds; what it says itself stays as it is."""
    from omegaconf import OmegaConf

    from experiments.cli.grammar import key_of, readable_conditions

    _, config = multirun_config(*readable_conditions(list(overrides)))
    told = {key_of(text) for text in overrides} | set(config.hydra.sweeper.params)
    if config.sweep.file:
        file = yaml.safe_load(Path(config.sweep.file).read_text(encoding="utf-8"))
        told |= set(file["parameters"])
    tiny = {key_of(text): text for text in TINY} | {"max_epochs": "max_epochs=1"}
    shorter = {"max_epochs", "trainer.progress"}
    return [
        text
        for key, text in tiny.items()
        if (key in shorter or key not in told)
        and OmegaConf.select(config, key, default=None) is not None
    ]


def _plain(node: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def _sweep(overrides: Sequence[str]) -> None:
    import sweeps

    found = sweeps.run([*overrides, *_BUDGET])
    states = [trial.state.name for trial in found.study.trials]
    assert states in (["COMPLETE"], ["COMPLETE", "COMPLETE"], ["COMPLETE", "PRUNED"]), states


def _trial(overrides: Sequence[str], out: Path) -> None:
    from hydra import compose

    from experiments import config as configs
    from experiments.trial import run_trial

    own = [text for text in overrides if not text.startswith("hydra.")]
    result = run_trial(configs.plain(compose("config", own)), out / "trial", in_sweep=False)
    assert (result.directory / "result.json").is_file()


def _with_variables(word: str) -> str:
    word = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", word)
    return string.Template(word).safe_substitute(VARIABLES)


def in_shell(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command as it is typed, in a directory with the project's `run.py` and packages."""
    typed = shlex.join(words).replace(" run.py", f" {shlex.quote(str(ROOT / 'run.py'))}", 1)
    typed = re.sub(r"^'([A-Z_]+=[^']*)'", r"\1", typed)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WANDB_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "HOME": str(folder),
        "VAESWEEP_CACHE": str(folder / ".cache"),
    }
    return subprocess.run(
        typed, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
