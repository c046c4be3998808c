"""A checkpoint is found by what people call it, and nothing but a sound one is loaded."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import models
from experiments.errors import UserError
from experiments.record import read_result, write_json
from serving.model.checkpoints import load
from serving.model.references import find_checkpoint

CKPT = "checkpoints/best.ckpt"


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint, without a record beside it."""
    return Path(shutil.copy(trained / CKPT, tmp_path / "copy.ckpt"))


@pytest.fixture
def rewritten(checkpoint: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Changes what a checkpoint holds."""

    def rewrite(change: Callable[[dict[str, Any]], object]) -> Path:
        content = torch.load(checkpoint, weights_only=True)
        change(content)
        torch.save(content, checkpoint)
        return checkpoint

    return rewrite


def copied_sweep(trained: Path, directory: Path, rows: list[tuple[float, int, float]]) -> Path:
    """A sweep of copies of one record with other (lr, seed, psnr)."""
    for number, (lr, seed, psnr) in enumerate(rows):
        trial = directory / "sweep" / str(number)
        shutil.copytree(trained, trial)
        result = read_result(trial)
        result["seed"] = seed
        result["parameters"] |= {"lr": lr, "seed": seed}
        result["objective"] = {"names": ["psnr"], "values": [psnr]}
        write_json(trial / "result.json", result)
    return directory / "sweep"


def test_the_loaded_network_is_the_trained_one(trained: Path) -> None:
    model = load(trained)
    state = torch.load(trained / CKPT, weights_only=True)["state_dict"]
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, state[f"network.{name}"])
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert model.trained is not None
    assert model.trained.result["metrics"]["val"]["psnr"] > 0
    statistics = model.trained.statistics
    assert statistics is not None
    assert statistics.mean is not None
    assert len(statistics.mse) == model.trained.result["data"]["val"]
    assert len(statistics.mean) == model.network.latent_dim == 4


def test_a_checkpoint_that_says_nothing_of_its_upsampling_has_the_layers_of_old(
    checkpoint: Path,
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    described = content["vaesweep"]
    del described["model"]["upsampling"]
    network = models.create(
        "conv", image_shape=tuple(described["image_shape"]), latent_dim=described["latent_dim"],
        width=described["model"]["width"], upsampling="transposed",
    )  # fmt: skip
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save(content | {"state_dict": weights}, checkpoint)
    z = torch.randn(2, described["latent_dim"])
    found = load(checkpoint).network
    torch.testing.assert_close(found.decode(z), network.eval().decode(z))


def test_a_file_and_its_trial_are_the_same_model(trained: Path, checkpoint: Path) -> None:
    by_trial, by_file, alone = load(trained), load(trained / CKPT), load(checkpoint)
    assert by_trial.path == by_file.path
    assert by_trial.version == by_file.version == alone.version
    assert alone.trained is None


def test_a_record_of_another_network_is_not_believed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "trial")
    result = read_result(tmp_path / "trial")
    result["parameters"]["latent_dim"] = 5
    write_json(tmp_path / "trial" / "result.json", result)
    assert load(tmp_path / "trial").trained is None


def test_a_sweep_that_recommends_nothing_means_its_best_trial_and_says_so(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [(1e-3, 0, 20.0), (1e-3, 1, 20.4), (3e-4, 0, 21.0), (1e-4, 0, 30.0)]
    sweep = copied_sweep(trained, tmp_path, rows)
    broken = sweep / "9"
    broken.mkdir()
    (broken / "result.json").write_text('{"schema": 1, "sta')
    assert find_checkpoint(str(sweep)) == sweep / "3" / CKPT
    assert find_checkpoint(str(sweep.parent)) == sweep / "3" / CKPT
    assert "does not say which trial is best" in caplog.text


def test_a_sweep_means_what_its_answer_recommends(trained: Path, tmp_path: Path) -> None:
    rows = [(1e-3, 0, 20.0), (1e-3, 1, 20.4), (3e-4, 0, 21.0), (3e-4, 1, 30.0)]
    sweep = copied_sweep(trained, tmp_path, rows)
    for number in range(len(rows)):
        result = read_result(sweep / str(number))
        result["study"] = {"id": "a", "name": "cats", "trial": number}
        write_json(sweep / str(number) / "result.json", result)
    assert find_checkpoint(str(sweep)) == sweep / "3" / CKPT
    (sweep / "comparison.json").write_text('{"schema": 1, "use": [0, 1]}')
    assert find_checkpoint(str(sweep)) == sweep / "1" / CKPT
    url = f"sqlite:///{sweep}/study.db"
    study = optuna.create_study(study_name="cats", storage=url, direction="maximize")
    for number, (_, _, value) in enumerate(rows):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-5, 1)})
        trial.set_user_attr("directory", str(sweep / str(number)))
        study.tell(trial, value)
    study.set_user_attr("study_id", "a")
    study.set_user_attr("design", {"schema": 1, "use": [0]})
    assert find_checkpoint(f"{url}#cats") == sweep / "0" / CKPT
    for broken in ('{"use": 1}', '{"use": ["0"]}', "{"):
        (sweep / "comparison.json").write_text(broken)
        assert find_checkpoint(str(sweep)) == sweep / "3" / CKPT


@pytest.mark.slow
@pytest.mark.trains
def test_every_sweep_that_has_ended_says_what_it_recommends(
    tiny_sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = find_checkpoint(str(tiny_sweep))
    assert found.parents[1].parent == tiny_sweep
    assert find_checkpoint(f"sqlite:///{tiny_sweep}/study.db#tiny") == found
    assert "recommended of" in caplog.text
    assert "does not say" not in caplog.text


def test_a_study_needs_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install optuna"):
        find_checkpoint("sqlite:///study.db#vae")


def test_a_study_is_read_and_never_written(tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    with pytest.raises(UserError, match="cannot be read"):
        find_checkpoint(f"sqlite:///{tmp_path}/study.db#vae")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("study.db", 0)]


@pytest.mark.slow
def test_a_study_means_its_best_trial(trained: Path, tmp_path: Path) -> None:
    sweep = copied_sweep(trained, tmp_path, [(1e-3, 0, 20.0), (3e-4, 0, 21.0)])
    url = f"sqlite:///{sweep}/study.db"
    study = optuna.create_study(study_name="cats", storage=url, direction="maximize")
    for number, value in enumerate((20.0, 21.0)):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-5, 1)})
        trial.set_user_attr("directory", str(sweep / str(number)))
        study.tell(trial, value)
    assert find_checkpoint(f"{url}#cats") == sweep / "1" / CKPT
    with pytest.raises(UserError, match="holds no study 'dogs'"):
        find_checkpoint(f"{url}#dogs")
    shutil.rmtree(sweep / "1")
    with pytest.raises(UserError, match=r"must be on this machine.*copy it here"):
        find_checkpoint(f"{url}#cats")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere", "there is no nowhere"),
        ("sqlite:///nowhere.db#vae", "there is no nowhere.db"),
        ("sqlite:///nowhere.db", "a study is named by the URL of its storage and its name"),
        ("postgresql://me:s3cret@127.0.0.1:1/x#vae", r"but .*me:\*\*\*@127.0.0.1:1/x does not"),
    ],
)
def test_what_is_not_there_is_said(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_checkpoint(reference)
    assert "s3cret" not in str(caught.value)


def test_a_directory_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no trial's result.json"):
        find_checkpoint(str(tmp_path))


def test_a_trial_without_a_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "trial")
    (tmp_path / "trial" / CKPT).unlink()
    with pytest.raises(UserError, match="must have a checkpoint"):
        find_checkpoint(str(tmp_path / "trial"))


def test_a_truncated_file_is_refused_at_any_length(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"no file of torch\.save, or only a part of one"):
            load(checkpoint)


def test_code_in_a_file_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"state_dict": {}, "vaesweep": Payload()}, checkpoint)
    with pytest.raises(UserError, match="more than dense tensors and plain values"):
        load(checkpoint)
    checkpoint.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match=r"no file of torch\.save"):
        load(checkpoint)
    assert not (tmp_path / "owned").exists()


def test_an_archive_that_would_swell_is_refused(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="compressed archive"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("vaesweep"), "holds no description"),
        (lambda c: c.pop("state_dict"), "holds no description"),
        (
            lambda c: c["vaesweep"].update(schema=models.CHECKPOINT_SCHEMA + 1),
            "must have schema 1, but .* has 2; update vaesweep",
        ),
        (lambda c: c["vaesweep"].update(schema=0), "has 0; use the version of vaesweep that wrote"),
        (lambda c: c["vaesweep"].update(latent_dim=10**12), "description .* is damaged"),
        (lambda c: c["vaesweep"].update(latent_dim=4096), "must be those of the network"),
        (lambda c: c["vaesweep"].update(image_shape=[3, 50, 50]), "side 32, 64, 128, 256"),
        (lambda c: c["vaesweep"].update(model={"name": "os.system"}), "one of classic, conv"),
        (lambda c: c["state_dict"].popitem(), "must be those of the network"),
        (lambda c: c["state_dict"].update({"network.more": torch.ones(1)}), "must be those of"),
        (
            lambda c: c["state_dict"]["network.from_latent.bias"].fill_(float("nan")),
            "must be finite, but from_latent.bias",
        ),
    ],
)
def test_a_foreign_or_damaged_checkpoint_is_refused(
    rewritten: Callable[[Callable[[dict[str, Any]], object]], Path],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        load(rewritten(change))
