"""An exported file computes what its checkpoint does, in any batch, and says what it is."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import models
from experiments.errors import UserError
from serving.export import SUFFIXES, export, main
from serving.model import portable
from serving.model.checkpoints import Model, load
from tests import networks
from tests.conftest import ROOT

THEIR_OWN = "ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load(trained)


def originals(model: Model, rows: Tensor) -> dict[str, list[Tensor]]:
    """What the model itself makes of images: reconstructions, images of their means, posteriors."""
    mean, log_variance = model.network.encode(rows)
    return {
        "vae": [model.network(rows)],
        "decoder": [model.network.decode(mean)],
        "encoder": [mean, log_variance],
    }


def inputs(model: Model, part: str, rows: Tensor) -> Tensor:
    return model.network.encode(rows)[0] if part == "decoder" else rows


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no directory that takes no files")
def test_a_directory_that_takes_no_files_is_refused() -> None:
    with pytest.raises(UserError, match="`--out` must be a place that can be written, but "):
        export("nowhere", "vae", "onnx", Path("/proc/vae.onnx"))


def test_the_command_leaves_the_logging_of_its_caller_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "--checkpoint", str(tmp_path / "none")])
    handlers = logging.getLogger().handlers
    before = [list(handler.filters) for handler in handlers]
    with pytest.raises(SystemExit):
        main()
    assert handlers
    assert [handler.filters for handler in handlers] == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUFFIXES)
def test_the_command_says_what_it_wrote_and_nothing_of_what_writes(
    trained: Path, tmp_path: Path, kind: str
) -> None:
    command = ["--checkpoint", str(trained), "--part", "decoder", "--format", kind]
    done = subprocess.run(
        [sys.executable, "-m", "serving.export", *command],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(f"wrote decoder{SUFFIXES[kind]}: at most ")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["decoder", "encoder"])  # the whole, of every network, is below
def test_an_onnx_file_computes_the_same_in_batches_of_any_size(
    trained: Path, model: Model, tmp_path: Path, part: str
) -> None:
    import onnx
    import onnxruntime

    out = tmp_path / "deep" / "er" / f"{part}.onnx"
    assert export(str(trained), part, "onnx", out) < 1e-5
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    onnx.checker.check_model(onnx.load(out), full_check=True)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (takes,) = session.get_inputs()
    assert takes.shape[0] == "batch"
    for count in (1, 3, 33):
        rows = torch.rand(count, *model.network.image_shape)
        found = session.run(None, {takes.name: inputs(model, part, rows).numpy()})
        for own, other in zip(originals(model, rows)[part], found, strict=True):
            assert_close(torch.from_numpy(other), own, rtol=1e-4, atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert (told["part"], told["latent_dim"], told["size"], told["channels"]) == (
        part, "4", "32", "3",
    )  # fmt: skip
    assert told["checkpoint"] == model.version
    assert told["checkpoint_schema"] == str(models.CHECKPOINT_SCHEMA)
    assert told["input"] == takes.name
    assert told["outputs"].split(",") == [given.name for given in session.get_outputs()]
    assert b".py" not in out.read_bytes()  # whoever exports does not tell where his files lie


@pytest.mark.slow
@pytest.mark.filterwarnings(THEIR_OWN)
@pytest.mark.parametrize("part", ["vae", "decoder", "encoder"])
def test_a_pt2_file_computes_the_same_in_batches_of_any_size(
    trained: Path, model: Model, tmp_path: Path, part: str
) -> None:
    out = tmp_path / f"{part}.pt2"
    assert export(str(trained), part, "torch", out) < 1e-5
    told = {portable.DESCRIPTION: ""}
    run = torch.export.load(out, extra_files=told).module()
    for count in (1, 3, 33):
        rows = torch.rand(count, *model.network.image_shape)
        assert_close(list(run(inputs(model, part, rows))), originals(model, rows)[part])
    assert json.loads(told[portable.DESCRIPTION]) == portable.describe(model, part)
    with zipfile.ZipFile(out) as archive:
        assert not [name for name in archive.namelist() if b".py" in archive.read(name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_every_architecture_can_be_exported(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = networks.little(name)
    fresh = Model(network.eval().requires_grad_(False), name, "0" * 12, tmp_path, None)
    writers: dict[str, Callable[..., portable.Run]] = {
        ".onnx": portable.write_onnx,
        ".pt2": portable.write_torch,
    }
    for suffix, write in writers.items():
        run = write(fresh, "vae", tmp_path / f"vae{suffix}")
        assert portable.largest_difference(fresh, "vae", run) < 1e-5


def test_an_export_that_computes_something_else_is_refused(model: Model) -> None:
    def off(rows: Tensor) -> list[Tensor]:
        images = model.network.decode(rows)
        return [images if len(images) < 5 else images + 0.01]

    with pytest.raises(UserError, match=r"in a batch of 5 `images` differs by 0\.01; no file"):
        portable.largest_difference(model, "decoder", off)
    with pytest.raises(UserError, match="differs in shape"):
        portable.largest_difference(model, "decoder", lambda rows: [rows])


def test_a_failed_export_leaves_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: Model, part: str, path: Path) -> portable.Run:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(portable, "write_torch", write)
    with pytest.raises(OSError, match="No space left"):
        export(str(trained), "vae", "torch", tmp_path / "vae.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.pt2"
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match=r"must be a new file, but .*mine\.pt2 exists"):
        export(str(trained), "vae", "torch", out)
    assert out.read_bytes() == b"precious"


def test_without_onnx_the_remedy_is_told(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(
        UserError, match=r"but onnxscript cannot be found: pip install --editable '"
    ):
        export(str(trained), "vae", "onnx", tmp_path / "vae.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(SUFFIXES))
def test_the_suffix_must_fit_the_format(trained: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=f"must end in {SUFFIXES[kind]} for {kind}"):
        export(str(trained), "vae", kind, tmp_path / "vae.bin")


@pytest.mark.slow
def test_the_command_says_what_it_wrote_or_why_not(trained: Path, tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "serving.export", "--checkpoint", str(trained), *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--format", "torch", "--part", "decoder")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("wrote decoder.pt2: at most ")
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "file").touch()
    done = run("--out", "file/vae.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the output directory must be one that can be written")
