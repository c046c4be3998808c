"""A network, or half of it, as a file that runs without vaesweep: ONNX or torch.export.

Each file takes batches of any size in float32 and describes itself: an ONNX model in its
`metadata_props`, a `.pt2` in its extra file `vaesweep.json`.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import models
from experiments.cli import commands
from experiments.errors import UserError
from models.network import Network
from serving.model import latents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.model.checkpoints import Model

DESCRIPTION = "vaesweep.json"
"""The extra file of a `.pt2`."""

BATCHES = (2, 1, 5, 16)
"""Sizes on which an export is compared with its original, which is traced with the first."""

_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
_LARGEST_ONNX = 2**31  # of one protocol buffer
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

Run = Callable[[Tensor], list[Tensor]]


class Decoder(nn.Module):
    """Latents (B, latent_dim) to images (B, C, H, W) in [0, 1]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self.network.decode(latents),)


class Encoder(nn.Module):
    """Images (B, C, H, W) in [0, 1] to mean and log-variance, (B, latent_dim), of q(z|x)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(images)


class Whole(nn.Module):
    """Images (B, C, H, W) in [0, 1] to their reconstructions through the posterior's mean."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images),)


@dataclass(frozen=True)
class Part:
    """What of a network is exported.

    Attributes:
        wrap: makes a module of the network, which returns a tuple.
        takes: the name of its input.
        gives: the names of its outputs.
    """

    wrap: Callable[[Network], nn.Module]
    takes: str
    gives: tuple[str, ...]

    def of(self, network: Network) -> nn.Module:
        """The part as a module, in evaluation mode."""
        return self.wrap(network).eval()

    def example(self, network: Network, count: int) -> Tensor:
        """A batch of what the part takes: draws of the prior, or noise in [0, 1]."""
        if self.takes == "latents":
            return latents.draw(count, network.latent_dim, seed=count)
        generator = torch.Generator().manual_seed(count)
        return torch.rand(count, *network.image_shape, generator=generator)


PARTS = {
    "vae": Part(Whole, "images", ("reconstructions",)),
    "decoder": Part(Decoder, "latents", ("images",)),
    "encoder": Part(Encoder, "images", ("mean", "log_variance")),
}


def describe(model: Model, part: str) -> dict[str, str]:
    """What an exported file says of itself; plain words, as ONNX holds no others."""
    channels, size, _ = model.network.image_shape
    return {
        "part": part,
        "input": PARTS[part].takes,
        "outputs": ",".join(PARTS[part].gives),
        "network": model.name,
        "latent_dim": str(model.network.latent_dim),
        "size": str(size),
        "channels": str(channels),
        "fit": model.trained.fit if model.trained is not None else "unknown",
        "checkpoint": model.version,
        "checkpoint_schema": str(models.CHECKPOINT_SCHEMA),
    }


def write_torch(model: Model, part: str, path: Path) -> Run:
    """Write a `.pt2`; returns what runs the file that was written.

    Raises:
        OSError: the file cannot be written.
    """
    chosen = PARTS[part]
    # A file holds weights in one order only; others would be taken for parts of larger ones.
    network = copy.deepcopy(model.network)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = chosen.example(network, BATCHES[0])
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.export.export(
            chosen.of(network), (example,), dynamic_shapes={chosen.takes: {0: batch}}
        )
        for node in program.graph.nodes:  # where each was made, by paths of this machine
            node.meta.pop("stack_trace", None)
        description = json.dumps(describe(model, part), indent=2)
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={DESCRIPTION: description})
        with path.open("rb") as file:
            module = torch.export.load(file).module()
    return lambda rows: list(module(rows))


def write_onnx(model: Model, part: str, path: Path) -> Run:
    """Write an ONNX model; returns what runs the file that was written, by ONNX Runtime.

    Raises:
        UserError: packages are missing, or the network is too large for one file.
        OSError: the file cannot be written.
    """
    network, chosen = model.network, PARTS[part]
    require_onnx()
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    if size >= _LARGEST_ONNX:
        raise UserError(
            f"a network must have less than 2 GiB for ONNX, but this has {size / 2**30:.1f} GiB; "
            "use `--format torch`"
        )
    example = chosen.example(network, BATCHES[0])
    with _quiet():
        program = torch.onnx.export(
            chosen.of(network),
            (example,),
            dynamic_shapes={chosen.takes: {0: "batch"}},
            input_names=[chosen.takes],
            output_names=list(chosen.gives),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # where each was made, by paths of this machine
        node.metadata_props.clear()
    program.model.metadata_props.update(describe(model, part))
    program.save(path, external_data=False)
    return _onnx_runner(path, chosen.takes)


def require_onnx() -> None:
    """Raise a `UserError` unless the packages that write and check ONNX are there."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"`--format onnx` needs {', '.join(_PACKAGES)}, but {', '.join(missing)} cannot be "
            f"found: {commands.install('export')}"
        )


def largest_difference(model: Model, part: str, run: Run) -> float:
    """The largest difference of any value that `run` and the model's `part` compute.

    Raises:
        UserError: one differs by more than rounding explains (1e-4, and 1e-3 of its size).
    """
    original = PARTS[part].of(model.network)
    largest = 0.0
    for count in BATCHES:
        rows = PARTS[part].example(model.network, count)
        for name, own, other in zip(PARTS[part].gives, original(rows), run(rows), strict=True):
            same_shape = own.shape == other.shape
            if not same_shape or not torch.allclose(other, own, rtol=_RELATIVE, atol=_ABSOLUTE):
                how = f"by {float((own - other).abs().max()):.2g}" if same_shape else "in shape"
                raise UserError(
                    "an export must compute what its checkpoint does, but in a batch of "
                    f"{count} `{name}` differs {how}; no file was left. Please report it with "
                    "the versions of torch and onnx"
                )
            largest = max(largest, float((own - other).abs().max()))
    return largest


def _onnx_runner(path: Path, takes: str) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda rows: [torch.from_numpy(y) for y in session.run(None, {takes: rows.numpy()})]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what PyTorch's exporters say of PyTorch itself, and of torchvision's absence."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
