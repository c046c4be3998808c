"""A record that is somebody else's decides its trial's mathematics, and nothing else."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.trained.models import load_network, splits_of
from experiments.config import schema
from experiments.config.decided import BY_THE_RECORD, BY_US, NOT_IN_A_RECORD, decided, read_decided
from experiments.data import load_images
from experiments.errors import UserError
from experiments.record import read_result
from experiments.record.checkpoint import read_checkpoint
from experiments.record.foreign import read_npz
from experiments.rerun import rerun
from experiments.resume import find_session
from experiments.sync import sync
from serving.model.checkpoints import load as load_served
from serving.model.references import find_checkpoint
from tests.words import trusting

BEST = "checkpoints/best.ckpt"


@pytest.fixture
def theirs(trained: Path, tmp_path: Path) -> Path:
    """A record that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "theirs"))


def changed(record: Path, section: str, **values: Any) -> None:
    path = record / "config.json"
    config = json.loads(path.read_text())
    config[section] |= values
    path.write_text(json.dumps(config))


def test_every_key_of_the_schema_is_said_to_be_the_records_or_ours() -> None:
    """A new key must be put in one of the lists, with a thought of what a stranger makes of it."""

    def keys(typed: type, prefix: str = "") -> set[str]:
        found = set()
        for field in fields(typed):
            nested = getattr(schema, str(field.type), None)
            if is_dataclass(nested) and field.name not in NOT_IN_A_RECORD:
                assert isinstance(nested, type)
                found |= keys(nested, f"{prefix}{field.name}.")
            else:
                found.add(f"{prefix}{field.name}")
        return found

    lists = [BY_THE_RECORD, frozenset(BY_US), NOT_IN_A_RECORD]
    assert keys(schema.Config) == set().union(*lists)
    assert sum(map(len, lists)) == len(set().union(*lists))


@pytest.mark.slow
def test_what_a_record_may_not_decide_is_as_this_installation_has_it(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAESWEEP_CACHE", "mine")
    changed(theirs, "data", cache_dir="/theirs", flip=True)
    changed(
        theirs, "trainer", device="cuda:7", threads=999, profiler="advanced", precision="32-true"
    )
    changed(theirs, "logger", entity="theirs", project="theirs", tags=["x"], log_model=True)
    config = read_decided(theirs)
    assert config["data"]["cache_dir"] == "mine"
    assert config["data"]["flip"] is True
    assert config["trainer"]["precision"] == "32-true"
    for key in ("device", "threads", "profiler"):
        assert config["trainer"][key] == getattr(schema.TrainerConfig, key)
    assert config["logger"] | {"name": "none"} == {
        "name": "none", "project": "vaesweep", "entity": None, "group": None, "tags": [],
        "log_images_every": 10, "log_model": False,
    }  # fmt: skip
    assert decided({"data": {"cache_dir": "x"}, "more": 1}) == {
        "data": {"cache_dir": "mine"},
        "more": 1,
    }


@pytest.mark.slow
@pytest.mark.trains
def test_a_rerun_writes_where_it_is_told_to_and_nowhere_else(theirs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    changed(theirs, "data", cache_dir=str(outside))
    assert rerun(theirs, tmp_path / "again") == []
    assert not outside.exists()


def test_a_rerun_runs_no_code_that_nobody_trusts(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    config = json.loads((theirs / "config.json").read_text())
    config["loss"] = {"name": "custom", "target": "os.mkdir", "options": {"path": str(mark)}}
    (theirs / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="VAESWEEP_TRUST=os"):
        rerun(theirs, tmp_path / "again")
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_a_rerun_does_not_run_the_torch_script_that_a_record_names(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean((2, 3)) + torch.from_file("mark", True, 12).sum()

    monkeypatch.chdir(tmp_path)
    script = theirs / "features.pt"
    torch.jit.script(Writes()).save(str(script))
    changed(theirs, "evaluation", feature_extractor=str(script))
    with pytest.raises(UserError, match=f"VAESWEEP_TRUST={script} "):
        rerun(theirs, tmp_path / "again")
    assert not (tmp_path / "mark").exists()


def test_the_analysis_caches_images_where_we_do(theirs: Path, tmp_path: Path) -> None:
    changed(theirs, "data", cache_dir=str(tmp_path / "outside"))
    splits_of(theirs)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("said", [None, "another"])
def test_a_record_does_not_say_whose_wandb_it_is_sent_to(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    changed(theirs, "logger", name="wandb", entity="evil; rm")
    _, left = sync([theirs], everything=True, seconds=1, entity=said)
    (one,) = [item for item in left if item.directory == theirs]
    assert "names the W&B entity 'evil; rm'" in one.reason
    assert "--entity 'evil; rm'" in one.reason


def test_a_record_of_absurd_size_or_depth_is_refused_before_it_is_read(theirs: Path) -> None:
    (theirs / "result.json").write_text("[" * 10**6)
    with pytest.raises(UserError, match=r"result\.json gives"):
        read_result(theirs)
    with (theirs / "result.json").open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no room
    with pytest.raises(UserError, match="more than"):
        read_result(theirs)


def test_a_record_without_its_hardware_is_refused(theirs: Path, tmp_path: Path) -> None:
    result = json.loads((theirs / "result.json").read_text())
    del result["hardware"]
    (theirs / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="must be whole to be trained again"):
        rerun(theirs, tmp_path / "again")


def test_the_checkpoint_of_a_record_lies_in_it(theirs: Path, tmp_path: Path) -> None:
    shutil.copy(theirs / BEST, tmp_path / "other.ckpt")
    result = json.loads((theirs / "result.json").read_text())
    for named in ("../other.ckpt", str(tmp_path / "other.ckpt")):
        (theirs / "result.json").write_text(json.dumps(result | {"checkpoint": named}))
        with pytest.raises(UserError, match="must be in the record"):
            find_checkpoint(str(theirs))


# Checkpoints


class Runs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def runs_code(path: Path, mark: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"more": Runs(mark)}, path)


def runs_code_in_the_old_format(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Runs(mark)))


def repeats_one_value(path: Path, mark: Path) -> None:
    content = torch.load(path, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = torch.zeros(1).expand(10**13)
    torch.save(content, path)


def describes_the_moon(path: Path, mark: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["vaesweep"]["latent_dim"] = 10**12
    torch.save(content, path)


@pytest.mark.parametrize(
    "harm", [runs_code, runs_code_in_the_old_format, repeats_one_value, describes_the_moon]
)
def test_a_checkpoint_is_read_without_harm(
    harm: Callable[[Path, Path], None], theirs: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    harm(theirs / BEST, mark)
    for read in (load_network, load_served):
        with pytest.raises(UserError, match=r"a checkpoint must|the weights of a checkpoint"):
            read(theirs)
    assert not mark.exists()


def test_a_trial_is_not_resumed_from_code(theirs: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    result = json.loads((theirs / "result.json").read_text())
    (theirs / "result.json").write_text(json.dumps(result | {"status": "interrupted"}))
    config = json.loads((theirs / "config.json").read_text())
    torch.save({"epoch": Runs(mark)}, theirs / "checkpoints/last.ckpt")
    assert find_session(theirs, config, result["data"]["fingerprint"]) is None
    assert not mark.exists()


# Arrays


def header(shape: tuple[int, ...], descr: str = "|u1", content: bytes = b"\0" * 64) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + content


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("shape", [(10**6, 4096, 4096, 3), (2**62, 2**62, 2, 3)])
def test_images_that_declare_the_moon_are_refused_before_memory_is_taken(
    ending: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / f"x.{ending}"
    if ending == "npz":
        zipped(path, images=header(shape))
    else:
        path.write_bytes(header(shape))
    with pytest.raises(UserError, match="declares"):
        load_images(root=path, cache_dir=tmp_path / "cache", size=16, progress=False)


@pytest.mark.parametrize("ending", ["npy", "npz", "pt"])
def test_arrays_of_objects_run_nothing(ending: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / f"x.{ending}"
    evil = header((1,), "|O", pickle.dumps([Runs(mark)]))
    if ending == "npz":
        zipped(path, images=evil)
    elif ending == "npy":
        path.write_bytes(evil)
    else:
        torch.save(Runs(mark), path)
    with pytest.raises(UserError, match="without running code"):
        load_images(root=path, cache_dir=tmp_path / "cache", size=16, progress=False)
    assert not mark.exists()


def test_scores_that_declare_the_moon_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "validation.npz", mse=header((10**13,), "<f8"))
    with pytest.raises(ValueError, match="declares"):
        read_npz(path)
    np.savez(path, mse=np.arange(3.0))
    assert read_npz(path)["mse"].tolist() == [0, 1, 2]


def test_what_pytorch_wrote_is_read(theirs: Path) -> None:
    assert read_checkpoint(theirs / BEST)["state_dict"].keys()


@pytest.mark.slow
@pytest.mark.trains
def test_the_users_word_lets_a_records_loss_run(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_losses_of_records.py").write_text(
        "def squared(x_hat, x): return (x_hat - x).square().flatten(1).mean(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_losses_of_records", raising=False)
    config = json.loads((theirs / "config.json").read_text())
    config["loss"] = {"name": "custom", "target": "my_losses_of_records.squared", "options": {}}
    (theirs / "config.json").write_text(json.dumps(config))
    trusting(monkeypatch, "my_losses_of_records")
    rerun(theirs, tmp_path / "again")
    assert read_result(tmp_path / "again")["status"] == "completed"
