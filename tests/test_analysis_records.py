"""Records on disk become tables, and what cannot be read is said, not fatal."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.commands import settle
from analysis.comparison import groups_of
from analysis.labels import group_label
from analysis.load import load
from experiments.config.decided import decided
from experiments.errors import UserError
from experiments.record import HISTORY, KL_WEIGHT, at_full_weight
from tests.conftest import Compose
from tests.records import result, write, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two losses and two seeds, of which the last trial failed."""
    directory = write_sweep(
        tmp_path / "outputs/cats/sweep",
        [
            result(19.0, seed=0),
            result(19.2, seed=1),
            result(18.0, seed=0, loss__name="ssim", loss__sigma=1.5),
            result(status="failed", seed=1, loss__name="ssim", loss__sigma=1.5),
        ],
    )
    (directory / "0/checkpoints").mkdir()
    (directory / "0/checkpoints/best.ckpt").touch()
    return directory


def test_a_row_holds_what_a_trial_was_and_gave(sweep: Path) -> None:
    row = load(sweep).trials.iloc[0]
    expected = {
        "trial": "cats/0",
        "source": str(sweep),
        "sweep": "cats",
        "number": 0,
        "phase": "search",
        "status": "completed",
        "seed": 0,
        "configuration": "loss=mse",
        "lr": 1e-3,
        "loss.name": "mse",
        "logger.tags": (),
        "data.fingerprint": "f" * 32,
        "val/psnr": 19.0,
        "epochs": 20,
        "steps": 100,
        "seconds/total": 12.0,
        "seconds/fit": 10.0,
        "seconds/epoch": 0.5,
        "images_per_second": 500.0,
        "directory": str(sweep / "0"),
        "checkpoint": str(sweep / "0/checkpoints/best.ckpt"),
    }
    assert {key: row[key] for key in expected} == expected
    assert row[["reason", "wandb", "loss.sigma"]].isna().all()


def test_the_history_has_a_row_for_each_validation(sweep: Path) -> None:
    (sweep / "1/history.jsonl").write_text('{"epoch": 1, "step": 10, "val/psnr": 15.0}\n{"epo')
    history = load(sweep).history
    assert list(history.columns[:3]) == ["trial", "epoch", "step"]
    assert list(history["trial"]) == ["cats/0"] * 2 + ["cats/1"] + ["cats/2"] * 2 + ["cats/3"] * 2
    assert list(history["epoch"][:3]) == [1, 3, 1], "without the line that a killed trial left"
    assert history["val/loss"].isna().all()


def test_what_varies_is_what_was_searched_without_the_options_of_a_choice(sweep: Path) -> None:
    runs = load(sweep)
    assert runs.searched == ("loss.name",)
    assert runs.objectives == ("psnr",)
    assert list(runs.trials["configuration"]) == ["loss=mse"] * 2 + ["loss=ssim"] * 2


def test_a_configuration_tells_every_difference_but_the_seed(tmp_path: Path) -> None:
    contents = [
        result(lr=1e-3, seed=0),
        result(lr=1e-3, seed=1, data__cache_dir="/elsewhere", logger__tags=["night"]),
        result(lr=0.00010001),
        result(lr=0.0001),
        result(optimizer__gradient_clip=None),
        result(loss__name="ssim", loss__sigma=1.5),
        result(loss__name="ssim", loss__sigma=2.0),
    ]
    trials = load(write_sweep(tmp_path / "sweep", contents)).trials
    assert list(trials["configuration"]) == [
        "loss=mse lr=0.001 optimizer.gradient_clip=10",
        "loss=mse lr=0.001 optimizer.gradient_clip=10",
        "loss=mse lr=0.00010001 optimizer.gradient_clip=10",
        "loss=mse lr=0.0001 optimizer.gradient_clip=10",
        "loss=mse lr=0.001 optimizer.gradient_clip=null",
        "loss=ssim lr=0.001 optimizer.gradient_clip=10 loss.sigma=1.5",
        "loss=ssim lr=0.001 optimizer.gradient_clip=10 loss.sigma=2",
    ]


def test_what_was_trained_on_the_scale_of_old_is_named_beside_the_new(tmp_path: Path) -> None:
    contents = [
        result(seed=seed, loss__name=loss, **degree)
        for seed, (loss, degree) in enumerate(
            (loss, degree)
            for loss in ("l1", "mse")
            for degree in ({}, {"loss__degree": "auto"}, {"loss__degree": 2})
        )
    ]
    runs = load(write_sweep(tmp_path / "sweep", contents))
    assert list(runs.trials["loss.degree"]) == ["2", "auto", "2"] * 2
    assert list(runs.trials["configuration"])[:2] == [
        "loss=l1 loss.degree=2",
        "loss=l1 loss.degree=auto",
    ]
    assert groups_of(runs) == ("loss.name", "loss.degree")
    assert group_label({"loss.name": "l1", "loss.degree": "2"}) == "l1, degree 2"

    levels = [{"loss.name": loss} for loss in ("l1", "l1", "mse", "mse")]
    found = settle(runs, groups_of(runs), 8, [1], levels, confirmed=False)
    assert found is not None
    assert " loss.degree=2,auto " in found.command, "as the command takes it"

    old = load(write_sweep(tmp_path / "old", contents[::3]))
    assert "loss.degree" not in " ".join(old.trials["configuration"])
    assert groups_of(old) == ("loss.name",)


def test_validations_of_old_count_beside_new_ones_which_say_their_weight(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [result(seed=0), result(seed=1)])
    rows = [{"epoch": e, "step": e + 1, "val/psnr": 10.0 + e} for e in range(4)]
    new = [row | {KL_WEIGHT: min(1, row["epoch"] / 2)} for row in rows]
    for name, each in (("0", rows), ("1", new)):
        (sweep / name / HISTORY).write_text("".join(json.dumps(row) + "\n" for row in each))
    history = load(sweep).history
    counted = at_full_weight(history.to_dict("records"))
    assert [row["val/psnr"] for row in counted] == [10, 11, 12, 13, 12, 13]


def test_a_record_of_old_decides_the_scale_of_old(tmp_path: Path) -> None:
    loss = {"name": "l1", "scale": "optimal_sigma"}
    assert decided({"loss": loss})["loss"] == {**loss, "degree": 2.0}
    assert decided({"loss": loss | {"degree": "auto"}})["loss"]["degree"] == "auto"


def test_a_record_of_old_decides_its_layers(compose: Compose) -> None:
    old = decided({"model": {"name": "conv", "width": 4}})["model"]
    assert old == {"name": "conv", "width": 4, "upsampling": "transposed"}
    now = compose("~model.upsampling")["model"]
    assert now["upsampling"] == "nearest", "a file of the user's own that says nothing is new"
    assert decided({"model": now})["model"] == now


def test_other_images_are_another_configuration(tmp_path: Path) -> None:
    other = result()
    other["data"]["fingerprint"] = "0" * 32
    runs = load(write_sweep(tmp_path / "sweep", [result(), other]))
    assert runs.trials["configuration"].nunique() == 2
    assert runs.searched == ()


def test_a_folder_of_sweeps_a_sweep_and_a_trial_can_be_loaded(sweep: Path, tmp_path: Path) -> None:
    write(tmp_path / "outputs/cats/2026-01-01_10-00-00", result())
    write_sweep(tmp_path / "outputs/other/sweep", [result(name="other", objective=["ssim", "kl"])])
    everything = load(tmp_path / "outputs")
    assert list(everything.trials["trial"]) == [
        "cats/2026-01-01_10-00-00", "cats/0", "cats/1", "cats/2", "cats/3", "other/0",
    ]  # fmt: skip
    single = everything.trials.iloc[0]
    assert single[["sweep", "number", "phase"]].isna().all()
    assert everything.objectives == (), "they differ"
    assert list(load(str(sweep / "3")).trials["trial"]) == ["cats/3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"schema": 1, "status"', "Expecting ':' delimiter"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be an object"),
        (json.dumps(result() | {"schema": 2}).encode(), "must have schema 1, but has 2"),
        (json.dumps(result(status="splendid")).encode(), "a status of running, interrupted, "),
        (json.dumps(result() | {"parameters": [1]}).encode(), "'parameters' must be an object"),
        (json.dumps(result() | {"timings": {"fit_seconds": "9"}}).encode(), "must be a number"),
    ],
)
def test_a_broken_record_is_listed_with_the_reason(
    sweep: Path, content: bytes, reason: str
) -> None:
    (sweep / "1/result.json").write_bytes(content)
    runs = load(sweep)
    assert list(runs.trials["number"]) == [0, 2, 3]
    (broken,) = runs.broken
    assert broken.where == str(sweep / "1")
    assert reason in broken.reason


def test_a_foreign_folder_is_listed_and_what_sweeps_leave_besides_trials_is_not(
    sweep: Path,
) -> None:
    for name in ("holiday", "17/.hydra", ".cache/x", "artifacts/0", "workers"):
        (sweep / name).mkdir(parents=True)
    broken = load(sweep).broken
    assert [Path(b.where).name for b in broken] == ["17", "holiday"]
    assert all("holds no result.json" in b.reason for b in broken)


def test_a_trial_that_was_trained_again_beside_the_first_counts_once(
    sweep: Path, tmp_path: Path
) -> None:
    again = result(None, status="running", seed=0) | {"rerun_of": str(sweep / "0")}
    write(sweep / "0-again", again)  # as it is while it is trained
    runs = load(sweep)
    assert list(runs.trials["trial"]) == ["cats/0", "cats/1", "cats/2", "cats/3"]
    assert not runs.broken
    assert len(load(sweep / "0-again").trials) == 1  # where it is meant

    single = write(tmp_path / "runs/first", result(19.0, name="single"))
    write(tmp_path / "runs/second", result(19.0, name="single") | {"rerun_of": str(single)})
    write(tmp_path / "runs/third", result(18.0, name="single") | {"rerun_of": "/gone"})
    assert len(load(tmp_path / "runs").trials) == 2


def test_only_broken_records_are_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "sweep/0").mkdir(parents=True)
    (tmp_path / "sweep/0/result.json").write_text("{")
    runs = load(tmp_path / "sweep")
    assert len(runs.broken) == 1
    assert runs.trials.empty
    assert runs.history.empty
    assert {"trial", "status", "seed", "configuration", "directory"} <= set(runs.trials.columns)
    assert {"trial", "epoch", "step"} <= set(runs.history.columns)


@pytest.mark.parametrize("path", ["", "empty", "missing", "file"])
def test_a_source_that_holds_nothing_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a source must be"):
        load(tmp_path / path)


@pytest.mark.slow
def test_a_real_sweep_is_read_as_it_ended(tiny_sweep: Path) -> None:
    runs = load(tiny_sweep)
    assert list(runs.trials["status"]) == ["completed"] * 4 + ["failed", "pruned"]
    assert runs.broken == []
    assert runs.searched == ("loss.name", "lr")
    failed, pruned = runs.trials.iloc[4], runs.trials.iloc[5]
    assert "NaN or infinite" in failed["reason"]
    assert pd.isna(failed["val/psnr"])
    assert 5 < pruned["val/psnr"] < 20
    assert Path(pruned["checkpoint"]).is_file()
    epochs = runs.history.groupby("trial")["epoch"].apply(list)
    assert epochs["tiny/0"] == [9, 19]
    assert epochs["tiny/5"] == [9]
