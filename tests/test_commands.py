"""Commands that are given to people do what the sentence before them says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from analysis.commands import add_seeds, vary_beta
from analysis.runs import Runs
from tests.planted import Planted, runs


@pytest.fixture
def grid() -> Runs:
    return runs([Planted("mse"), Planted("ssim")])


def of_sweep(
    known: Runs, folder: Path, task: Sequence[str], own: Sequence[str] = (), **sweeper: Any
) -> Runs:
    """The same trials, in the directory of a sweep that this was typed for."""
    overrides = {"task": list(task), "hydra": [*own, "hydra.mode=MULTIRUN"]}
    content = {"hydra": {"overrides": overrides, "sweeper": {"params": {}, **sweeper}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    directories = [str(folder / str(number)) for number in known.trials["number"]]
    return replace(known, trials=known.trials.assign(directory=directories))


def test_a_grid_is_widened_by_seeds(grid: Runs, tmp_path: Path) -> None:
    typed = ["loss=mse,ssim", "name=my cats"]
    known = of_sweep(grid, tmp_path, typed, ["hydra.sweeper.n_jobs=2"], n_trials=None)
    assert add_seeds(known) == (
        "python run.py -m loss=mse,ssim 'name=my cats' hydra.sweeper.n_jobs=2 seed=0,1,2"
    )


def test_seeds_that_were_given_are_replaced(grid: Runs, tmp_path: Path) -> None:
    known = of_sweep(grid, tmp_path, ["loss=mse,ssim", "seed=4"])
    assert add_seeds(known) == "python run.py -m loss=mse,ssim seed=0,1,2"


@pytest.mark.parametrize(
    ("typed", "sweeper"),
    [
        (["lr=tag(log,interval(1e-4,1e-2))"], {}),
        (["loss=mse,ssim"], {"n_trials": 40}),
        (["sweep=full"], {"params": {"lr": "tag(log,interval(1e-4,1e-2))"}}),
    ],
)
def test_the_best_of_a_search_are_confirmed(
    grid: Runs, tmp_path: Path, typed: list[str], sweeper: dict[str, Any]
) -> None:
    command = add_seeds(of_sweep(grid, tmp_path, typed, **sweeper), best=5)
    assert command.endswith(" sweep.confirm=5")
    assert "seed=" not in command


def test_without_the_sweeps_directory_it_lists_what_the_trials_took(grid: Runs) -> None:
    assert add_seeds(grid) == "python run.py -m name=cats loss=mse,ssim seed=0,1,2"


@pytest.mark.parametrize("name", ["Größe 1", "a,b", "it's", "x=1", "null", "7"])
def test_hydra_reads_any_name_back(tmp_path: Path, name: str) -> None:
    known = runs([Planted("mse"), Planted("ssim")])
    known = replace(known, trials=known.trials.assign(name=name))
    typed = [add_seeds(known), vary_beta(known, {}, ["mse"], "1,2")]
    for command, expected in zip(typed, [name, f"{name}-rate"], strict=True):
        overrides = shlex.split(command)[3:]
        read = OverridesParser.create().parse_overrides(overrides)
        (found,) = [override.value() for override in read if override.key_or_group == "name"]
        assert str(getattr(found, "text", found)) == expected


def test_of_single_runs_it_keeps_what_was_typed(grid: Runs, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    typed = ["data=images", "data.root=photos", "loss=mse", "seed=3"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    known = replace(grid, trials=grid.trials.assign(directory=str(tmp_path)))
    assert add_seeds(known) == (
        "python run.py -m data=images data.root=photos name=cats loss=mse,ssim seed=0,1,2"
    )


@pytest.mark.parametrize("content", ["[", "hydra: 3", "hydra: {overrides: {}}", "\xff"])
def test_a_broken_file_is_as_good_as_none(grid: Runs, tmp_path: Path, content: str) -> None:
    known = of_sweep(grid, tmp_path, [])
    (tmp_path / "multirun.yaml").write_bytes(content.encode("latin-1"))
    assert add_seeds(known) == "python run.py -m name=cats loss=mse,ssim seed=0,1,2"


def test_beta_is_varied_with_all_else_fixed(grid: Runs, tmp_path: Path) -> None:
    typed = [
        "data=images",
        "lr=tag(log,interval(1e-4,1e-2))",
        "objective=[psnr,ssim]",
        "sweep=full",
    ]
    known = of_sweep(grid, tmp_path, typed)
    command = vary_beta(known, {"latent_dim": 64, "lr": 3e-4}, ["mse", "ssim"], "0.5,1,2")
    assert command == (
        "python run.py -m data=images 'objective=[psnr,ssim]' name=cats-rate latent_dim=64 "
        "lr=0.0003 loss=mse,ssim beta=0.5,1,2 seed=0,1,2"
    )
