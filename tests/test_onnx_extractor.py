"""A feature extractor that can compute and nothing else, beside one that needs the user's word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.cli import commands
from experiments.metrics.features import feature_distances, try_extractor
from tests.words import trusting

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")

H = onnx.helper
T = onnx.TensorProto


class Small(nn.Module):
    """A convolution of bytes and the mean of each of its channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.convolution(x.float() / 255).relu().mean((2, 3))
        return features


def as_onnx(network: Small, *, batch: int | str = "B", kind: int = T.UINT8) -> Any:
    """The same network in ONNX's own words."""
    convolution = network.convolution
    assert convolution.bias is not None
    weight, bias = (
        onnx.numpy_helper.from_array(p.detach().numpy(), name)
        for p, name in ((convolution.weight, "weight"), (convolution.bias, "bias"))
    )
    scale = onnx.numpy_helper.from_array(torch.tensor(255.0).numpy(), "scale")
    axes = onnx.numpy_helper.from_array(torch.tensor([2, 3]).numpy(), "axes")
    nodes = [
        H.make_node("Cast", ["x"], ["float"], to=T.FLOAT),
        H.make_node("Div", ["float", "scale"], ["scaled"]),
        H.make_node("Conv", ["scaled", "weight", "bias"], ["map"]),
        H.make_node("Relu", ["map"], ["positive"]),
        H.make_node("ReduceMean", ["positive", "axes"], ["y"], keepdims=0),
    ]
    graph = H.make_graph(
        nodes,
        "small",
        [H.make_tensor_value_info("x", kind, [batch, 3, "H", "W"])],
        [H.make_tensor_value_info("y", T.FLOAT, [batch, 5])],
        [weight, bias, scale, axes],
    )
    return H.make_model(graph, opset_imports=[H.make_opsetid("", 18)], ir_version=9)


def images(count: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, 16, 16), generator=generator, dtype=torch.uint8)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r"evaluation\.feature_extractor") as error:
        try_extractor(path, images(2))
    return str(error.value)


@pytest.mark.parametrize("batch", ["B", 1, 64])
@pytest.mark.parametrize("kind", [T.UINT8, T.FLOAT])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_gives_the_distances_of_the_same_network_in_torch(
    batch: int | str, kind: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Small()
    torch.jit.script(network).save(str(tmp_path / "small.pt"))
    onnx.save(as_onnx(network, batch=batch, kind=kind), tmp_path / "small.onnx")
    sets = images(70, channels), images(71, channels)
    unasked = feature_distances(*sets, tmp_path / "small.onnx")
    trusting(monkeypatch, str(tmp_path / "small.pt"))
    asked = feature_distances(*sets, tmp_path / "small.pt")
    assert unasked == pytest.approx(asked, rel=1e-3, abs=1e-5)


def test_torch_script_that_writes_files_needs_the_users_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean((2, 3)) + torch.from_file("mark", True, 12).sum()

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "writes.pt"
    torch.jit.script(Writes()).save(str(path))
    message = refused(path)
    assert f"VAESWEEP_TRUST={path} before the command" in message
    assert ".onnx" in message
    assert not (tmp_path / "mark").exists()
    trusting(monkeypatch, "packages", str(tmp_path / "another.pt"))
    refused(path)
    assert not (tmp_path / "mark").exists()
    trusting(monkeypatch, str(path))
    try_extractor(path, images(2))
    assert (tmp_path / "mark").exists()  # so that the test would notice


def test_a_network_whose_weights_lie_in_other_files_is_refused(tmp_path: Path) -> None:
    model = as_onnx(Small())
    (tmp_path / "secret").write_bytes(bytes(model.graph.initializer[0].raw_data))
    for inside in (False, True):
        model = as_onnx(Small())
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = T.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", "secret" if inside else str(tmp_path / "secret")
        (tmp_path / "outside.onnx").write_bytes(model.SerializeToString())
        assert "refers to other files" in refused(tmp_path / "outside.onnx")


def test_an_operator_that_is_not_onnx_s_own_is_refused_also_in_a_branch(tmp_path: Path) -> None:
    def branch() -> Any:
        out = H.make_tensor_value_info("z", T.FLOAT, None)
        return H.make_graph([H.make_node("Run", [], ["z"], domain="evil")], "branch", [], [out])

    for node in (
        H.make_node("Run", ["x"], ["y"], domain="evil"),
        H.make_node("If", ["x"], ["y"], then_branch=branch(), else_branch=branch()),
    ):
        graph = H.make_graph(
            [node],
            "g",
            [H.make_tensor_value_info("x", T.UINT8, ["B", 3, "H", "W"])],
            [H.make_tensor_value_info("y", T.FLOAT, ["B", 5])],
        )
        onnx.save(H.make_model(graph), tmp_path / "foreign.onnx")
        assert "uses Run of evil" in refused(tmp_path / "foreign.onnx")


def broken_text(path: Path) -> None:
    path.write_text("not a network")


def another_shape(path: Path) -> None:
    model = as_onnx(Small())
    del model.graph.node[-1]
    model.graph.node[-1].output[0] = "y"
    model.graph.output[0].CopyFrom(H.make_tensor_value_info("y", T.FLOAT, ["B", 5, "H", "W"]))
    onnx.save(model, path)


def of_text(path: Path) -> None:
    onnx.save(as_onnx(Small(), kind=T.STRING), path)


def of_64_pixels(path: Path) -> None:
    model = as_onnx(Small())
    for place in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = 64
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (broken_text, "that can be read, but"),
        (another_shape, "gave \\(2, 5, 14, 14\\) for a batch of 2"),
        (of_text, "takes uint8 or float images|can be run"),
        (of_64_pixels, "failed: .*"),
    ],
)
def test_what_is_no_extractor_is_refused(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.onnx"
    write(path)
    with pytest.raises(ValueError, match=rf"evaluation\.feature_extractor.*{message}"):
        try_extractor(path, images(2))


def test_onnx_without_onnxruntime_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(as_onnx(Small()), tmp_path / "small.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert commands.install("features") in refused(tmp_path / "small.onnx")
