"""Sweeps of simulated trials: who runs what, how often, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.errors import HydraException
from optuna.trial import TrialState

import sweeps
from experiments.errors import UserError
from sweeps.command import Sweep
from sweeps.study.stopping import Stopping
from tests.conftest import TINY
from tests.simulated import SimulatedTask

IN_PROCESS = "hydra.sweeper.n_jobs=0"
LR = "lr=tag(log,interval(1e-4,1e-2))"
ABOVE = optuna.distributions.FloatDistribution(1e-4, 1e-2)

RunSweep = Callable[..., Sweep]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSweep:
    """Run a sweep of simulated trials in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run_sweep(*overrides: str, **task: Any) -> Sweep:
        given = [o for o in overrides if o.startswith("hydra.sweeper.n_jobs")]
        jobs = [] if given else [IN_PROCESS]
        simulated = SimulatedTask(log=str(tmp_path / "log"), **task)
        return sweeps.run([*overrides, *jobs], task=simulated)

    return run_sweep


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[], list[str]]:
    """The overrides of every trial that was begun, in order, without the name."""

    def read() -> list[str]:
        log = tmp_path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        begun = [line.split(" ", 2) for line in lines]
        return [
            " ".join(word for word in words[2].split() if not word.startswith("name="))
            for words in begun
            if words[1] == "begin"
        ]

    return read


def states(sweep: Sweep) -> list[str]:
    return [trial.state.name for trial in sweep.study.trials]


@pytest.mark.slow
def test_choices_are_a_grid_of_which_each_point_runs_once(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    sweep = run("loss=ssim,mse", "lr=1e-3,3e-4", "max_epochs=7")
    assert sorted(trained()) == sorted(
        f"max_epochs=7 loss={loss} lr={lr}" for loss in ("ssim", "mse") for lr in (0.001, 0.0003)
    )
    assert states(sweep) == ["COMPLETE"] * 4
    assert sweep.study.best_params == {"loss": "mse", "lr": 0.001}
    assert list(sweep.table["params/loss"]) == ["ssim", "ssim", "mse", "mse"]


@pytest.mark.slow
def test_a_budget_below_the_grid_samples_points_without_repeating_one(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    command = ["loss=ssim,mse,l1", "latent_dim=4,8,16", "sweep.compare=[]"]
    sweep = run(*command, "hydra.sweeper.n_trials=8")
    assert len(set(trained())) == len(sweep.study.trials) == 8
    sweep = run(*command, "hydra.sweeper.n_trials=8")
    assert len(trained()) == 8, "nothing left to do"


@pytest.mark.slow
def test_an_interval_runs_twenty_trials_unless_told_otherwise(run: RunSweep) -> None:
    assert len(run(LR).study.trials) == 20
    assert len(run("name=b", LR, "hydra.sweeper.n_trials=3").study.trials) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra/sweeper/sampler=magic"], "Could not find 'hydra/sweeper/sampler/magic'"),
        (["hydra/sweeper/pruner=magic"], "Could not find 'hydra/sweeper/pruner/magic'"),
        (["hydra/launcher=magic"], "Could not find 'hydra/launcher/magic'"),
        (["objective=beauty"], "`objective` must be one of psnr"),
        (["loss=mse,ssim", "loss.window_size=7,-3"], "window_size` must be"),
        (["model=resnet,conv", "model.width=8,0"], "`model.width` must be"),
        (["hydra.sweeper.storage=mongodb://x"], "storage must be"),
    ],
)
def test_a_mistake_is_told_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    with pytest.raises((UserError, HydraException), match=re.escape(message)):
        sweeps.run([*TINY, IN_PROCESS, "loss=mse,l1", *arguments])
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", ["tpe", "grid", "cmaes"]
)  # others: tests/test_sweep_samplers.py
def test_every_sampler_searches_and_repeats_itself_by_its_seed(run: RunSweep, sampler: str) -> None:
    space = ["lr=1e-3,3e-4", "latent_dim=4,8"]
    if sampler != "grid":
        space = [LR, "beta=interval(0.1,2)", "latent_dim=interval(4,64)"]
    extra = ["hydra.sweeper.sampler.n_startup_trials=2"] if sampler in ("tpe", "gp") else []

    def params(name: str, seed: int) -> list[dict[str, Any]]:
        sweep = run(
            f"name={name}",
            *space,
            *extra,
            f"hydra/sweeper/sampler={sampler}",
            f"hydra.sweeper.sampler.seed={seed}",
            "hydra.sweeper.n_trials=5",
            epochs=1,
        )
        return [trial.params for trial in sweep.study.trials]

    first = params("a", 3)
    assert first == params("b", 3)
    if sampler not in ("grid", "qmc"):
        assert first != params("c", 4)


@pytest.mark.slow
def test_a_sampler_goes_on_where_it_was_and_repeats_no_point(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    arguments = [LR, "hydra.sweeper.sampler.seed=1", "hydra/sweeper/sampler=random"]
    first = run(*arguments, "hydra.sweeper.n_trials=3").study.trials
    more = run(*arguments, "hydra.sweeper.n_trials=6").study.trials
    assert [t.params for t in more[:3]] == [t.params for t in first]
    assert len({t.params["lr"] for t in more}) == len(set(trained())) == 6


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["asha", "hyperband", "patient"])
def test_a_pruner_works_and_keeps_the_best(run: RunSweep, pruner: str) -> None:
    sweep = run(
        LR,
        "loss=mse,ssim",
        "max_epochs=9",
        f"hydra/sweeper/pruner={pruner}",
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.sampler.seed=0",
        epochs=9,
    )
    found = states(sweep)
    assert set(found) <= {"COMPLETE", "PRUNED"}
    if pruner in ("asha", "hyperband"):
        assert "PRUNED" in found
    pruned = [t for t in sweep.study.trials if t.state == TrialState.PRUNED]
    assert all(t.user_attrs["reason"].startswith("at epoch") for t in pruned)
    assert sweep.study.best_params["loss"] == "mse"


@pytest.mark.slow
def test_a_grid_is_pruned_only_if_asked(run: RunSweep) -> None:
    arguments = ["latent_dim=64,32,16,8,4,2", "loss=mse,ssim", "max_epochs=9"]
    assert set(states(run("name=a", *arguments, epochs=9))) == {"COMPLETE"}
    asked = run("name=b", *arguments, "hydra/sweeper/pruner=asha", epochs=9)
    assert "PRUNED" in states(asked)


@pytest.mark.slow
def test_several_objectives_give_a_front_and_are_pruned_by_rank(run: RunSweep) -> None:
    sweep = run(
        LR,
        "objective=[psnr,ssim]",
        "max_epochs=9",
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.sampler.seed=0",
        objectives=2,
        epochs=9,
    )
    assert sweep.objectives == ("psnr", "ssim")
    assert sweep.study.best_trials
    assert "PRUNED" in states(sweep)
    assert {len(t.values) for t in sweep.study.trials if t.values} == {2}
    text = (sweep.directory / "optimization_results.yaml").read_text()
    assert "solutions:" in text


@pytest.mark.slow
def test_seeds_are_a_dimension_that_no_sampler_sees(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    sweep = run("loss=ssim,mse", "seed=1,2,3")
    assert sorted(trained()) == sorted(
        f"loss={n} seed={s}" for n in ("ssim", "mse") for s in (1, 2, 3)
    )
    assert all(set(trial.params) == {"loss"} for trial in sweep.study.trials)
    sampled = run("name=b", LR, "seed=1,2", "hydra.sweeper.n_trials=4")
    assert [t.user_attrs["seed"] for t in sampled.study.trials] == [1, 2, 1, 2]


@pytest.mark.slow
def test_the_best_are_confirmed_with_fresh_seeds(run: RunSweep) -> None:
    confirmed = ["sweep.confirm=2", "sweep.confirm_seeds=3", "sweep.confirm_most=3"]
    sweep = run("latent_dim=4,8,16,32", *confirmed)
    again = [t for t in sweep.study.trials if t.user_attrs.get("phase") == "confirm"]
    assert sorted((t.params["latent_dim"], t.user_attrs["seed"]) for t in again) == [
        (latent_dim, seed) for latent_dim in (16, 32) for seed in (1, 2, 3)
    ]
    assert len(sweep.study.trials) == 4 + 6
    once_more = run("latent_dim=4,8,16,32", *confirmed)
    assert len(once_more.study.trials) == 10


@pytest.mark.slow
def test_a_wider_grid_runs_the_new_points_only(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    run("loss=ssim,mse", "latent_dim=4,8")
    sweep = run("loss=ssim,mse,l1", "latent_dim=4,8,16")
    points = [f"loss={n} latent_dim={z}" for n in ("ssim", "mse", "l1") for z in (4, 8, 16)]
    assert sorted(trained()) == sorted(points)
    assert len(sweep.study.trials) == 9
    narrow = run("loss=l1,ssim", "latent_dim=4,8")
    assert len(trained()) == 9, "a narrower grid is done already"
    assert len(narrow.study.trials) == 9
    run("loss=ssim,mse,l1", "latent_dim=4,8,16", "seed=0,1")
    assert len(trained()) == 9 + 9 + 9, "seeds that nobody named before are other trials here"


@pytest.mark.slow
def test_a_trial_that_is_done_is_known_by_its_configuration(
    run: RunSweep, trained: Callable[[], list[str]]
) -> None:
    """A fixed value that becomes a dimension: its points are the same trials as before."""
    run("loss=ssim,mse", "lr=0.001")
    sweep = run("loss=ssim,mse", "lr=0.001,0.0003")
    points = [frozenset(words.split()) for words in trained()]
    assert len(points) == len(set(points)) == 4
    copies = [t for t in sweep.study.trials if "same_as" in t.user_attrs]
    assert [t.value for t in copies] == [
        sweep.study.trials[t.user_attrs["same_as"]].value for t in copies
    ]
    assert len(copies) == 2


@pytest.mark.slow
def test_more_trials_are_added_to_a_grown_budget(run: RunSweep) -> None:
    assert len(run(LR, "hydra.sweeper.n_trials=2").study.trials) == 2
    assert len(run(LR, "hydra.sweeper.n_trials=5").study.trials) == 5
    assert len(run(LR, "hydra.sweeper.n_trials=3").study.trials) == 5


@pytest.mark.slow
def test_a_timeout_ends_a_sweep_and_the_next_command_goes_on(
    run: RunSweep, trained: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes in the third trial; who says so is simulated elsewhere (OVER_TIME)."""
    arguments = [LR, "hydra.sweeper.n_trials=9", "hydra/sweeper/pruner=none"]
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "_is_over_time", lambda self: len(trained()) >= 3)
        sweep = run(*arguments, "hydra.sweeper.timeout=3600")
    assert states(sweep) == ["COMPLETE"] * 3
    assert states(run(*arguments)) == ["COMPLETE"] * 9


@pytest.mark.slow
def test_a_timeout_before_any_trial_is_no_answer(run: RunSweep) -> None:
    with pytest.raises(UserError, match=r"none was completed \(the timeout has passed\); raise"):
        run("loss=mse,l1", "hydra.sweeper.timeout=0.0001")
    assert set(states(run("loss=mse,l1"))) == {"COMPLETE"}
    # What an earlier command found is an answer.
    assert len(run("loss=mse,l1,ssim", "hydra.sweeper.timeout=0.0001").study.trials) == 2


@pytest.mark.slow
def test_a_grid_that_goes_on_with_other_points_never_counts_beyond_its_total(
    run: RunSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    run("loss=mse,l1", "seed=0,1", fail=("seed=1",))
    run("loss=mse,l1", "seed=0,1", "sweep.retry_failed=true")
    run("loss=mse,l1", "seed=0,2")
    told = re.findall(r"(\d+) of (\d+) done", capsys.readouterr().out)
    assert [int(done) for done, _ in told] == [1, 2, 3, 4, 3, 4, 5, 6]
    assert [int(total) for _, total in told] == [4] * 6 + [6] * 2


@pytest.mark.slow
def test_a_sweep_stops_when_nothing_gets_better(run: RunSweep) -> None:
    sweep = run("latent_dim=64,32,16,8,4,2", "sweep.stop_after_no_improvement=3")
    assert len(sweep.study.trials) == 4


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_the_sweep_goes_on(run: RunSweep) -> None:
    sweep = run("loss=ssim,mse,l1", fail=("loss=mse",))
    assert states(sweep) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert sweep.study.trials[1].user_attrs["reason"] == "RuntimeError: asked to fail"
    again = run("loss=ssim,mse,l1")
    assert len(again.study.trials) == 3, "what failed is not tried again"
    retried = run("loss=ssim,mse,l1", "sweep.retry_failed=true")
    assert states(retried) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert retried.study.trials[3].params == {"loss": "mse"}


@pytest.mark.slow
def test_if_every_trial_fails_the_first_reason_is_told(run: RunSweep) -> None:
    with pytest.raises(UserError, match="every trial failed; trial 0: RuntimeError: asked to fail"):
        run("loss=ssim,mse", fail=("loss=mse", "loss=ssim"))


@pytest.mark.slow
def test_too_many_failures_end_a_sweep(run: RunSweep, trained: Callable[[], list[str]]) -> None:
    with pytest.raises(UserError, match=r"83% of the trials failed.*sweep.max_failure_rate=0.8"):
        run(
            "latent_dim=1,2,3,4,5,6,7,8,9",
            "sweep.max_failure_rate=0.8",
            fail=tuple(f"latent_dim={z}" for z in range(2, 10)),
        )
    assert len(trained()) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.n_trials=0"], "`hydra.sweeper.n_trials` must be an integer of 1 or more"),
        (["hydra.sweeper.n_trials=many"], "`hydra.sweeper.n_trials` must be"),
        (["hydra.sweeper.timeout=-1"], "`hydra.sweeper.timeout` must be"),
        (["hydra.sweeper.n_jobs=-1"], "`hydra.sweeper.n_jobs` must be"),
        (["sweep.max_failure_rate=2"], "`sweep.max_failure_rate` must be"),
        (["hydra/sweeper/sampler=grid", LR], "`lr` is an interval; list the values"),
        (
            ["hydra/sweeper/sampler=grid", "latent_dim=1,2,3", "hydra.sweeper.n_trials=2"],
            "number of points of the grid",
        ),
        (["hydra/sweeper/pruner=median", "objective=[psnr,ssim]", LR], "or none for several"),
        (["hydra/sweeper/pruner=asha", "hydra.sweeper.pruner.reduction_factor=1", LR], "reduction"),
        (
            [
                LR,
                "kl.warmup_epochs=0,2",
                "max_epochs=4",
                "hydra/sweeper/pruner=asha",
                "hydra.sweeper.pruner.min_resource=1",
            ],
            "`hydra.sweeper.pruner.min_resource` must be 2 or more",
        ),
        (["hydra.sweeper.sampler._target_=os.system", LR], "os.system"),
        (["hydra.sweeper.pruner=asha", LR], "type hydra/sweeper/pruner=asha"),
        (["hydra.sweeper.storage={_target_:subprocess.Popen,args:[ls]}"], "storage"),
        (["objective=psnrr"], "`objective` must be one of psnr"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_trial(
    run: RunSweep, tmp_path: Path, overrides: list[str], message: str
) -> None:
    from hydra.errors import HydraException

    searched = LR in overrides or overrides == ["loss=mse"]
    with pytest.raises((UserError, HydraException), match=message):
        run(*([] if searched else ["loss=mse,l1"]), *overrides)
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_study_of_another_space_objective_or_program_is_refused(
    run: RunSweep, trained: Callable[[], list[str]], tmp_path: Path
) -> None:
    run("loss=ssim,mse", "lr=1e-3,3e-4")
    for overrides, message in [
        (["loss=ssim,mse", "lr=interval(1e-4,1e-2)"], "Optuna cannot mix .* `lr` is one of"),
        (["loss=ssim,mse", "lr=1e-3,3e-4", "beta=2"], "beta: 1.0 there, 2"),
        (["loss=ssim,mse", "objective=ssim"], r"one objective, but 'vae' has \['psnr'\]"),
    ]:
        with pytest.raises(UserError, match=message):
            run(*overrides)
    assert len(trained()) == 4
    storage = f"sqlite:///{tmp_path}/other.db"
    optuna.create_study(storage=storage, study_name="vae")
    with pytest.raises(UserError, match="made by vaesweep, but 'vae' was not"):
        run("loss=ssim,mse", f"hydra.sweeper.storage='{storage}'", "hydra.sweep.dir=outputs/other")


@pytest.mark.slow
def test_a_logarithmic_interval_does_not_mix_with_a_linear_one(run: RunSweep) -> None:
    run("lr=interval(1e-4,1e-2)", "hydra.sweeper.n_trials=1")
    with pytest.raises(
        UserError, match=r"a number from 0\.0001 to 0\.01 in 'vae' and a logarithmic"
    ):
        run(LR, "hydra.sweeper.n_trials=2")
    run("lr=interval(1e-5,1e-1)", "hydra.sweeper.n_trials=2")  # another range is no other kind


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "mapping"])
def test_any_storage_serves(run: RunSweep, tmp_path: Path, storage: str) -> None:
    url = f"journal://{tmp_path}/study.log"
    if storage == "mapping":
        url = (
            "{_target_:optuna.storages.JournalStorage,"
            "log_storage:{_target_:optuna.storages.journal.JournalFileBackend,"
            f"file_path:{tmp_path}/study.log}}}}"
        )
    sweep = run("loss=ssim,mse", f"hydra.sweeper.storage={url}", "hydra.sweeper.n_jobs=2")
    assert states(sweep) == ["COMPLETE"] * 2
    assert (tmp_path / "study.log").exists()


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_its_last_epoch(
    run: RunSweep, tmp_path: Path, trained: Callable[[], list[str]]
) -> None:
    sweep = run("latent_dim=4,8,16", "hydra.sweeper.n_jobs=2", kill=("latent_dim=8",), seconds=0.05)
    kept = [t for t in sweep.study.trials if "retried" not in t.user_attrs]
    assert [t.state.name for t in kept] == ["COMPLETE"] * 3
    assert len(sweep.study.trials) == 4
    (dead,) = [t for t in sweep.study.trials if t.state == TrialState.FAIL]
    assert dead.user_attrs["reason"].startswith("its worker died")
    log = (tmp_path / "log").read_text()
    assert f"{dead.number} resume" in log, "the clone goes on in the directory of the original"
    assert len(trained()) == 3


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_is_given_up(run: RunSweep) -> None:
    sweep = run(
        "latent_dim=4,8",
        "sweep.max_retries=1",
        "hydra.sweeper.n_jobs=1",
        kill=("latent_dim=8",),
        kill_always=True,
    )
    assert states(sweep) == ["COMPLETE", "FAIL", "FAIL"]
    assert sweep.table["state"].tolist() == ["complete", "fail"]


def test_gpus_go_round_and_are_shared_only_if_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.workers.resources import check_gpus, device_of, visible_gpus

    assert [device_of(worker, 2) for worker in range(4)] == ["cuda:0", "cuda:1"] * 2
    assert device_of(3, 0) is None
    check_gpus(4, 2, 2)
    check_gpus(9, 0, 1)
    with pytest.raises(
        UserError, match=r"at most 2 with 2 GPUs and sweep\.trials_per_gpu=1, but got 3"
    ):
        check_gpus(3, 2, 1)
    for visible, count in [("0,1", 2), ("", 0), ("-1", 0), ("GPU-3", 1)]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert visible_gpus() == count


def test_trials_that_share_a_gpu_in_turn_are_told_how_to_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sweeps.workers.resources import tell_how_to_share

    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with caplog.at_level("INFO"):
        tell_how_to_share(2, 2)
        tell_how_to_share(4, 0)
        assert not caplog.text
        tell_how_to_share(4, 2)
        assert "nvidia-cuda-mps-control -d" in caplog.text
        caplog.clear()
        (tmp_path / "control").touch()  # the service's
        tell_how_to_share(4, 2)
        assert not caplog.text


def test_cores_are_divided_among_workers() -> None:
    import os

    from sweeps.workers.resources import threads_per_worker

    cores = len(os.sched_getaffinity(0))
    assert threads_per_worker(1) is None
    assert threads_per_worker(cores) == 1
    assert threads_per_worker(10 * cores) == 1
    assert threads_per_worker(2) == max(1, cores // 2)


def test_without_n_jobs_there_is_a_worker_for_each_core_or_place_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sweeps.workers import resources

    def workers(trials: int | None = None, repeatable: bool = False, **trainer: Any) -> int:
        settings = {"device": "auto", "threads": None, **trainer}
        return resources.usual_workers(
            settings, trials=trials, repeatable=repeatable, trials_per_gpu=3
        )

    monkeypatch.setattr(resources, "visible_gpus", lambda: 0)
    monkeypatch.setattr(resources, "cores", lambda: 6)
    assert workers() == 6
    assert workers(threads=2) == 3
    assert workers(threads=16) == 1
    assert workers(trials=4) == 4
    assert workers(repeatable=True) == 1
    monkeypatch.setattr(resources, "cores", lambda: 64)
    assert workers() == 8
    monkeypatch.setattr(resources, "visible_gpus", lambda: 2)
    assert workers() == 6
    assert workers(device="cpu") == 8
    assert workers(device="cuda:1") == 1


@pytest.mark.slow
def test_a_seeded_search_without_n_jobs_repeats_itself(
    run: RunSweep, trained: Callable[[], list[str]], tmp_path: Path
) -> None:
    search = [
        "lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=null",
    ]  # fmt: skip
    run(*search, "name=first")
    first = trained()
    run(*search, "name=second")
    assert trained()[len(first) :] == first
    assert len(set(first)) == 4
