"""One trial from config to record, on tiny networks."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import losses
from experiments.errors import TrialError, UserError, is_disk_full
from experiments.record import read_history, read_result
from experiments.record.files import check_space
from experiments.trial import run_trial

Compose = Callable[..., dict[str, Any]]

FILES = {
    "config.json",
    "result.json",
    "history.jsonl",
    "validation.npz",
    "reconstructions.png",
    "samples.png",
    "checkpoints",
}

RANKS = ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]
RANKS += ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_JOB_ID", "JSM_NAMESPACE_RANK"]
RANKS += ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK"]
"""What srun, torchrun, PyTorchJob, jsrun and MPI set."""


def history(directory: Path) -> list[dict[str, float]]:
    lines = (directory / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_a_trial_leaves_a_whole_record(tiny: Compose, tmp_path: Path) -> None:
    config = tiny("max_epochs=4", "trainer.validate_every=2")
    result = run_trial(config, tmp_path / "record")

    record = tmp_path / "record"
    assert {path.name for path in record.iterdir()} == FILES
    stored = read_result(record)
    assert (stored["status"], stored["reason"], stored["epochs"]) == ("completed", None, 4)
    assert stored["objective"] == {"names": ["psnr"], "values": [result.objective]}
    assert stored["metrics"] == result.metrics
    assert set(stored["metrics"]) == {"val", "test"}
    assert stored["parameters"]["loss.name"] == "mse"
    assert stored["seed"] == 0
    assert stored["packages"]["torch"] == torch.__version__
    assert json.loads((record / "config.json").read_text()) == config
    assert [row["epoch"] for row in history(record)] == [1, 3]
    logged = {"val/psnr", "val/loss", "val/nats", "val/elbo", "val/bits_per_dim", "val/degree"}
    logged |= {f"train/{name}" for name in ("loss", "nats", "elbo", "grad_norm", "clipped")}
    assert logged | {"lr"} <= set(history(record)[0])
    with Image.open(record / "samples.png") as samples:
        assert min(samples.size) >= 250


def test_metrics_of_the_record_are_those_of_its_checkpoint(tiny: Compose, tmp_path: Path) -> None:
    from experiments.building import batched, load
    from experiments.scoring.checkpoint import load_weights
    from models import create

    config = tiny()
    run_trial(config, tmp_path / "record")
    stored = read_result(tmp_path / "record")
    data = batched(config, load(config), "cpu")
    network = create("conv", image_shape=(3, 32, 32), latent_dim=4, width=4).eval()
    load_weights(network, tmp_path / "record" / stored["checkpoint"])

    x = torch.cat(list(data.val)).float() / 255
    with torch.no_grad():
        x_hat = network(x)
    mse = (x_hat - x).square().flatten(1).mean(1).numpy()
    assert stored["metrics"]["val"]["mse"] == pytest.approx(mse.mean(), rel=1e-5)
    assert stored["metrics"]["val"]["psnr"] == pytest.approx((-10 * np.log10(mse)).mean(), rel=1e-5)
    with np.load(tmp_path / "record" / "validation.npz") as per_image:
        np.testing.assert_allclose(per_image["mse"], mse, rtol=1e-4)
        assert per_image["kl_per_unit"].sum() == pytest.approx(stored["metrics"]["val"]["kl"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv", "resnet model.width=4"])
def test_the_same_config_gives_the_same_metrics_bit_for_bit(
    tiny: Compose, tmp_path: Path, model: str
) -> None:
    overrides = f"model={model}".split()
    results = [run_trial(tiny(*overrides), tmp_path / name) for name in ("first", "second")]
    assert results[0].metrics == results[1].metrics
    other = run_trial(tiny(*overrides, "seed=1"), tmp_path / "other")
    assert other.metrics != results[0].metrics


@pytest.mark.parametrize("name", sorted(set(losses.DISTANCES) - {"custom"}))
@pytest.mark.slow
def test_every_loss_trains(tiny: Compose, tmp_path: Path, name: str) -> None:
    overrides = ["max_epochs=30", "lr=5e-3", "optimizer.warmup_steps=5", "model.width=8"]
    metrics = run_trial(tiny(f"loss={name}", *overrides), tmp_path / "record").metrics["val"]
    assert metrics["psnr"] > metrics["mean_image_psnr"]
    assert metrics["kl"] > 5
    assert metrics["active_units"] == 4


def test_the_best_weights_are_kept_not_the_last(tiny: Compose, tmp_path: Path) -> None:
    class Spoil(pl.Callback):
        """Let the last validation see nothing but white images."""

        def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            if trainer.current_epoch == 3:
                weights = list(module.parameters())
                for weight in weights:
                    torch.nn.init.zeros_(weight)
                torch.nn.init.constant_(weights[-1], 20.0)  # the last bias

    run_trial(
        tiny("max_epochs=4", "trainer.validate_every=1", "lr=1e-2", "optimizer.warmup_steps=0",
             "trainer.precision=32-true"),
        tmp_path / "record",
        callbacks=[Spoil()],
    )  # fmt: skip
    rows = [row["val/psnr"] for row in history(tmp_path / "record")]
    assert max(rows) == max(rows[:3]) > rows[3] + 1
    stored = read_result(tmp_path / "record")["metrics"]["val"]["psnr"]
    assert stored == pytest.approx(max(rows), abs=1e-4)


@pytest.mark.slow
def test_the_averaged_weights_that_were_validated_are_those_that_are_kept(
    tiny: Compose, tmp_path: Path
) -> None:
    config = tiny("optimizer.ema_decay=0.9", "max_epochs=12", "lr=5e-3", "optimizer.warmup_steps=0",
                  "trainer.validate_every=1", "trainer.precision=32-true")  # fmt: skip
    result = run_trial(config, tmp_path / "record")
    best = max(row["val/psnr"] for row in history(tmp_path / "record"))
    assert result.metrics["val"]["psnr"] == pytest.approx(best, abs=1e-4)


def test_a_loss_that_becomes_nan_ends_the_trial_with_its_step(
    tiny: Compose, tmp_path: Path
) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(
            self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, idx: int
        ) -> None:
            if trainer.global_step == 6:
                next(module.parameters()).data.fill_(float("nan"))

    with pytest.raises(TrialError, match="NaN or infinite at step 6"):
        run_trial(tiny("max_epochs=9"), tmp_path / "record", callbacks=[Poison()])
    stored = read_result(tmp_path / "record")
    assert stored["status"] == "failed"
    assert "at step 6" in stored["reason"]


def test_an_error_while_training_is_recorded_and_raised(tiny: Compose, tmp_path: Path) -> None:
    class Fail(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        run_trial(tiny(), tmp_path / "record", callbacks=[Fail()])
    stored = read_result(tmp_path / "record")
    assert (stored["status"], stored["reason"]) == ("failed", "RuntimeError: out of luck")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=100"], "`batch_size` must be at most the number of images to train on"),
        (["data.count=6"], "each split must have 2 images or more"),
        (["data.size=48"], "side 32, 64, 128, 256"),
        (["trainer.device=cuda:7"], "must be one of auto, cpu.*but got 'cuda:7'"),
        (["loss=ssim", "loss.window_size=33"], "needs images of 33 pixels or more"),
        (["loss=custom", "loss.target=os.system"], "VAESWEEP_TRUST=os"),
        (["loss.scale=max"], "`loss.scale` must be one of"),
        (["evaluation.feature_extractor=absent.pt"], "absent.pt is not a file"),
        (["data=images"], "needs `data.root`"),
        (["data=images", "data.root=absent"], "does not exist"),
    ],
)
def test_a_mistake_is_told_before_training_and_leaves_nothing(
    tiny: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Hydra has made the directory by then.
    (tmp_path / "outputs" / "record" / ".hydra").mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        run_trial(tiny(*overrides), tmp_path / "outputs" / "record")
    assert not (tmp_path / "outputs").exists()


def test_a_mistake_leaves_a_directory_with_other_files_alone(tiny: Compose, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(UserError):
        run_trial(tiny("batch_size=100"), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_a_full_disk_is_noticed_before_training(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs \d+ MiB for this trial.*has 1 MiB left"):
        run_trial(tiny(), tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_a_disk_that_is_too_small_even_empty_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    for total, is_waited_for in ((2**50, True), (2**22, False)):
        now = usage._replace(total=total, free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, now=now: now)
        with pytest.raises(UserError, match="1 MiB left") as refused:
            check_space(tmp_path, 2**20)
        assert is_disk_full(refused.value) == is_waited_for


def test_code_that_exits_while_it_trains_fails_its_trial(tiny: Compose, tmp_path: Path) -> None:
    class Exits(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            sys.exit(3)

    with pytest.raises(RuntimeError, match=r"it calls sys\.exit\(3\)"):
        run_trial(tiny(), tmp_path, callbacks=[Exits()])
    result = read_result(tmp_path)
    assert (result["status"], result["reason"]) == ("failed", "RuntimeError: it calls sys.exit(3)")


def test_in_a_sweep_the_test_split_is_not_looked_at(tiny: Compose, tmp_path: Path) -> None:
    result = run_trial(tiny(), tmp_path / "record", in_sweep=True)
    assert set(result.metrics) == {"val"}


def test_several_objectives_are_returned_in_order(tiny: Compose, tmp_path: Path) -> None:
    result = run_trial(tiny("objective=[l1,psnr]"), tmp_path / "record")
    assert result.objective == (result.metrics["val"]["l1"], result.metrics["val"]["psnr"])


@pytest.mark.slow
@pytest.mark.trains
def test_checkpoints_are_chosen_by_scores_in_float32_whatever_trains(
    tiny: Compose, tmp_path: Path
) -> None:
    config = tiny("trainer.precision=bf16-mixed", "trainer.memory_format=channels_last")
    result = run_trial(config, tmp_path / "record")
    best = max(read_history(tmp_path / "record"), key=lambda row: float(row["val/psnr"]))
    for name in ("psnr", "ssim", "kl", "elbo"):  # the final evaluation is in float32
        assert best[f"val/{name}"] == pytest.approx(result.metrics["val"][name], rel=1e-4), name


@pytest.mark.slow
def test_early_stopping_counts_epochs_without_progress(tiny: Compose, tmp_path: Path) -> None:
    run_trial(
        tiny("max_epochs=50", "lr=1e-12", "trainer.early_stopping_patience=4",
             "trainer.validate_every=2"),
        tmp_path / "record",
    )  # fmt: skip
    assert read_result(tmp_path / "record")["epochs"] < 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.ema_decay=0.9"],
        ["optimizer.schedule=cosine", "kl.warmup_epochs=1", "kl.free_bits=0.1"],
        ["data.flip=true", "data.jitter=0.2"],
        ["data.channels=1", "loss=ssim"],
        ["trainer.precision=32-true", "trainer.memory_format=contiguous", "trainer.threads=1"],
        ["logger=csv"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_options_train(tiny: Compose, tmp_path: Path, overrides: list[str]) -> None:
    threads = torch.get_num_threads()
    run_trial(tiny(*overrides), tmp_path / "record")
    torch.set_num_threads(threads)
    assert read_result(tmp_path / "record")["status"] == "completed"
    if overrides == ["logger=csv"]:
        assert "val/psnr" in (tmp_path / "record" / "csv" / "metrics.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simple", "advanced"])
def test_a_profile_is_written_that_names_the_training_step(
    tiny: Compose, tmp_path: Path, kind: str
) -> None:
    run_trial(tiny(f"trainer.profiler={kind}"), tmp_path / "record")
    (profile,) = (tmp_path / "record").glob("*profile*.txt")
    assert "training_step" in profile.read_text()


def test_checkpoints_load_without_running_code_and_say_what_they_are(
    tiny: Compose, tmp_path: Path
) -> None:
    run_trial(tiny(), tmp_path / "record")
    path = tmp_path / "record" / read_result(tmp_path / "record")["checkpoint"]
    saved = torch.load(path, weights_only=True)["vaesweep"]
    assert saved["model"] == {"name": "conv", "width": 4, "upsampling": "nearest"}
    assert (saved["image_shape"], saved["latent_dim"]) == ([3, 32, 32], 4)


@pytest.mark.slow
def test_a_trial_that_has_ended_leaves_no_network_in_memory(tiny: Compose, tmp_path: Path) -> None:
    from models.vae import VAE

    def alive() -> tuple[int, int]:
        gc.collect()
        return sum(type(o) is VAE for o in gc.get_objects()), gc.get_freeze_count()

    before = alive()
    for name in "ab":
        run_trial(tiny("max_epochs=1"), tmp_path / name, in_sweep=True)
    assert alive() == before


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["csv", "none"])
def test_a_rank_in_the_environment_changes_nothing(
    logger: str, tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_utilities.core.rank_zero import rank_zero_only

    for name in RANKS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning reads it when it is imported

    run_trial(tiny(f"logger={logger}"), tmp_path / "record")

    files = {path.name for path in (tmp_path / "record").iterdir()}
    assert files == FILES | ({"csv"} if logger == "csv" else set())
    assert read_result(tmp_path / "record")["status"] == "completed"
    if logger == "csv":
        rows = (tmp_path / "record/csv/metrics.csv").read_text().splitlines()
        assert "val/psnr" in rows[0]
        assert len(rows) > 2
    assert {name: os.environ[name] for name in RANKS} == dict.fromkeys(RANKS, "1")
