"""Trained models scored on their held-out images, from the record alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import losses
from analysis.load import load
from analysis.runs import Runs
from analysis.trained.models import held_out, load_network, train_images
from analysis.trained.scores import score
from experiments.errors import UserError
from experiments.metrics import measured
from experiments.record import read_config, read_result
from tests.records import result, write_sweep

pytestmark = pytest.mark.trains


@pytest.fixture
def sweep(tiny_sweep: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(tiny_sweep, tmp_path / "sweep")


@pytest.fixture
def runs(sweep: Path) -> Runs:
    return load(sweep)


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.slow
def test_scores_of_the_validation_images_are_those_of_the_trials_own_evaluation(
    runs: Runs,
) -> None:
    scores = score(runs, split="val")
    assert list(scores.values) == ["tiny/0", "tiny/1", "tiny/2", "tiny/3"], "those completed"
    assert scores.missing == []
    for row in runs.trials[:4].to_dict("records"):
        own = np.load(Path(row["directory"]) / "validation.npz")
        values = scores.values[row["trial"]]
        for metric in measured("reconstructions"):
            np.testing.assert_allclose(values[metric], own[metric], rtol=1e-4, atol=1e-6)
        expected = read_result(row["directory"])["metrics"]["val"]
        level = scores.split_level.loc[row["trial"]]
        for metric in ("kl", "active_units", "sliced_wasserstein"):
            assert level[metric] == pytest.approx(expected[metric], rel=1e-4)
        assert values["kl"].mean() == pytest.approx(expected["kl"], rel=1e-4)


def test_each_model_is_measured_by_every_loss(sweep: Path) -> None:
    values = score(load(sweep), ["tiny/0"]).values["tiny/0"]
    named = {f"distance/{name}" for name in losses.names() if name != "custom"}
    assert set(values) == {*measured("reconstructions"), *named, "kl"}
    network, images = load_network(sweep / "0"), held_out(sweep / "0")
    assert len(images) == len(values["psnr"]) == read_result(sweep / "0")["data"]["test"]
    x = images / 255
    with torch.no_grad():
        error = (network(x) - x).double()
    np.testing.assert_allclose(values["distance/mse"], (error**2).mean(dim=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(values["mse"], values["distance/mse"], rtol=1e-5)


def test_scores_are_kept_beside_the_record_until_its_weights_change(
    runs: Runs, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score(runs, ["tiny/0"])
    with monkeypatch.context() as patch:
        patch.setattr("analysis.trained.scores.load_network", None)  # nothing is computed again
        again = score(runs, ["tiny/0"])
    for metric, values in first.values["tiny/0"].items():
        np.testing.assert_array_equal(values, again.values["tiny/0"][metric])
    assert first.split_level.equals(again.split_level)
    assert first.images == again.images

    shutil.copy(sweep / "1/checkpoints/best.ckpt", sweep / "0/checkpoints/best.ckpt")
    changed = score(runs, ["tiny/0"]).values["tiny/0"]["psnr"]
    assert not np.array_equal(changed, first.values["tiny/0"]["psnr"])
    (sweep / "0/scores-test.npz").write_bytes(b"PK\x03\x04 rubbish")
    np.testing.assert_array_equal(score(runs, ["tiny/0"]).values["tiny/0"]["psnr"], changed)
    assert not list(sweep.glob("0/*.part"))


def test_trials_without_weights_or_record_are_listed_and_the_others_scored(
    runs: Runs, sweep: Path
) -> None:
    (sweep / "0/checkpoints/best.ckpt").unlink()
    (sweep / "1/checkpoints/best.ckpt").write_bytes(b"no checkpoint")
    shutil.rmtree(sweep / "2")
    scores = score(runs)
    assert list(scores.values) == ["tiny/3"]
    assert [broken.where for broken in scores.missing] == ["tiny/0", "tiny/1", "tiny/2"]
    for broken, reason in zip(
        scores.missing, ["there is no", "no file of torch.save", "on this machine"], strict=True
    ):
        assert reason in broken.reason


def test_other_images_than_those_of_the_training_are_refused(sweep: Path) -> None:
    change_json(
        sweep / "0/result.json", data=read_result(sweep / "0")["data"] | {"fingerprint": "0" * 32}
    )
    scores = score(load(sweep), ["tiny/0", "tiny/1"])
    assert "are others than those" in scores.missing[0].reason
    assert list(scores.values) == ["tiny/1"]


def test_only_trials_that_saw_the_same_images_are_paired(sweep: Path) -> None:
    data = read_config(sweep / "0")["data"] | {"split_seed": 7}
    change_json(sweep / "0/config.json", data=data)
    scores = score(load(sweep))
    assert scores.on_common_images(scores.values) == {"tiny/1", "tiny/2", "tiny/3"}
    assert scores.on_common_images(["tiny/0"]) == {"tiny/0"}


def test_nothing_to_score_gives_no_scores(tmp_path: Path) -> None:
    runs = load(write_sweep(tmp_path / "sweep", [result(status="failed")]))
    scores = score(runs)
    assert scores.values == {}
    assert scores.split_level.empty


def test_an_unknown_trial_or_split_is_refused(runs: Runs) -> None:
    with pytest.raises(UserError, match="must be one of the runs, but got tiny/9"):
        score(runs, ["tiny/0", "tiny/9"])
    with pytest.raises(ValueError, match="must be one of val, test, but got 'train'"):
        score(runs, split="train")


def test_a_network_is_rebuilt_from_its_checkpoint_alone(runs: Runs, sweep: Path) -> None:
    (sweep / "0/config.json").unlink()
    network = load_network(runs.trials.iloc[0].to_dict())
    assert not network.training
    assert network.latent_dim == 4
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3, 32, 32)


def test_the_splits_are_those_of_the_training_and_apart(sweep: Path) -> None:
    counted = read_result(sweep / "2")["data"]
    parts = [train_images(sweep / "2"), held_out(sweep / "2", "val"), held_out(sweep / "2")]
    assert [len(part) for part in parts] == [counted[name] for name in ("train", "val", "test")]
    assert all(part.dtype == torch.uint8 for part in parts)
    together = torch.cat(parts).flatten(1)
    assert len(together.unique(dim=0)) == len(together) == 120


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vaesweep": {"schema": 2, "model": {}}}, "must have schema 1, but"),
        ({"state_dict": {}}, "must be those of the network that it describes"),
        ({"vaesweep": None}, "holds no description"),
    ],
)
def test_a_checkpoint_that_is_not_ours_is_refused(
    sweep: Path, change: dict[str, Any], reason: str
) -> None:
    path = sweep / "0/checkpoints/best.ckpt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(UserError, match=reason):
        load_network(sweep / "0")


def test_a_checkpoint_runs_no_code(sweep: Path) -> None:
    path = sweep / "0/checkpoints/best.ckpt"
    torch.save({"vaesweep": Exploding(str(sweep / "ran"))}, path)
    with pytest.raises(UserError, match="nothing of it was run"):
        load_network(sweep / "0")
    assert not (sweep / "ran").exists()


class Exploding:
    """Its unpickling makes a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (self.path,)
