"""A trained network from its checkpoint, without ever running code that the file holds."""

from __future__ import annotations

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from experiments.cli import commands
from experiments.errors import UserError
from experiments.record.foreign import check_tensors
from models.network import Network
from serving.model.references import find_checkpoint
from serving.model.trained import Trained, read_trained

MAX_BYTES = 8 * 2**30
"""Larger files are not read."""

_NETWORK = "network."  # before the names of the network's weights
_LARGEST_OPTION = 4096
_RULE = "a checkpoint must be one that vaesweep wrote (checkpoints/best.ckpt of a trial)"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A network that is ready to be used.

    Attributes:
        network: in evaluation mode, float32, on the CPU, without gradients.
        name: of the architecture, as in `conf/model/`.
        version: the first 12 hexadecimal digits of the file's SHA-256.
        path: of the checkpoint.
        trained: what the record beside the checkpoint says, or None without one.
    """

    network: Network
    name: str
    version: str
    path: Path
    trained: Trained | None


def load(reference: str | Path) -> Model:
    """Load the network of a checkpoint, a trial, a sweep's best trial, a study or an artifact.

    Only tensors and plain values are read from the file, never code.

    Args:
        reference: see `serving.model.references.find_checkpoint`.

    Raises:
        UserError: there is no such checkpoint; or it is truncated, foreign, damaged, or of another
            schema.
    """
    path = find_checkpoint(str(reference))
    content = _read(path)
    description = _description(content, path)
    network = _network(description, _weights(content, path), path)
    return Model(
        network=network,
        name=str(description["model"]["name"]),
        version=_digest(path)[:12],
        path=path,
        trained=read_trained(path, description),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"a checkpoint must have at most {MAX_BYTES // 2**30} GiB, but {path} has "
                f"{size / 2**30:.1f} GiB"
            )
        _refuse_compressed(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(
            f"a checkpoint must be a readable file, but {path}: {error.strerror}"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{_RULE} and hold no code, but {path} holds more than tensors and plain values; "
            "nothing of it was run"
        ) from error
    # What PyTorch's reader and unpickler make of broken bytes.
    except (
        zipfile.BadZipFile, RuntimeError, EOFError, KeyError, ValueError, TypeError,
        AttributeError, IndexError, ImportError, OverflowError, MemoryError, AssertionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{_RULE}, but {path} is no checkpoint or only a part of one; copy it again, whole"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{_RULE}, but {path} holds a {type(content).__name__}")
    return content


def _refuse_compressed(path: Path) -> None:
    """PyTorch stores without compression; a file that would swell is not PyTorch's."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise UserError(f"{_RULE}, but {path} is a compressed archive")


def _description(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    description = content.get("vaesweep")
    if not isinstance(description, dict) or "state_dict" not in content:
        raise UserError(
            f"{_RULE}, but {path} holds no description of the network; keys are "
            f"{', '.join(sorted(map(str, content))[:8]) or 'missing'}"
        )
    schema = description.get("schema")
    if schema != models.CHECKPOINT_SCHEMA:
        newer = isinstance(schema, int) and schema > models.CHECKPOINT_SCHEMA
        remedy = (
            "update vaesweep"
            if newer
            else "use the version of vaesweep that wrote it, or train the trial again from its "
            f"record: {commands.module('experiments.rerun', str(path.absolute().parents[1]))}"
        )
        raise UserError(
            f"a checkpoint must have schema {models.CHECKPOINT_SCHEMA}, but {path} has "
            f"{schema!r}; {remedy}"
        )
    model, shape = description.get("model"), description.get("image_shape")
    whole = (
        isinstance(model, dict)
        and isinstance(shape, list)
        and len(shape) == 3
        and all(map(_is_count, [*shape, description.get("latent_dim")]))
        and all(map(_is_option, model.values()))
    )
    if not whole:
        raise UserError(f"{_RULE}, but the description in {path} is damaged: {description}")
    return description


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 < value <= _LARGEST_OPTION


def _is_option(value: object) -> bool:
    """Whether it is no number that could ask for any memory."""
    return isinstance(value, str | bool) or (
        isinstance(value, int | float) and abs(value) <= _LARGEST_OPTION
    )


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{_RULE}, but {path} holds no tensors under state_dict")
    weights = {
        str(name).removeprefix(_NETWORK): value.detach()
        for name, value in state.items()
        if str(name).startswith(_NETWORK)
    }
    try:
        check_tensors(state.values(), path)
    except ValueError as error:
        raise UserError(f"{_RULE}, but {path} is not: {error}") from error
    broken = [n for n, w in weights.items() if w.is_floating_point() and not w.isfinite().all()]
    if broken:
        raise UserError(
            f"the weights of a checkpoint must be finite, but {broken[0]} of {path} is not"
        )
    return weights


def _network(description: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> Network:
    options = models.complete(description["model"], recorded=True)
    name = str(options.pop("name", None))
    channels, height, width = description["image_shape"]
    try:
        # Without memory of its own: a description cannot ask for more than the file holds.
        with torch.device("meta"):
            network = models.create(
                name,
                image_shape=(channels, height, width),
                latent_dim=description["latent_dim"],
                **options,
            )
        network.load_state_dict(
            {n: w.float() if w.is_floating_point() else w for n, w in weights.items()}, assign=True
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the weights of a checkpoint must be those of the network that it describes, but in "
            f"{path} they are not: {reason[:300]}"
        ) from error
    # Faster on a CPU, by a quarter to a third, and the same wherever it was trained.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
