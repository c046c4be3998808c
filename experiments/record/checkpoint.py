"""The one loader of checkpoints, whoever wrote them: nothing of them is run or believed.

PyTorch's own reader of plain values can be told to make much of little: `bytearray(10**11)` and
`torch.Tensor(10**11)` are plain to it, and so are tuples that hold each other twice and take for
ever to hash. So what a file asks for is looked at first, and only what `torch.save` writes for
dense tensors and plain values is let through to it. It maps the file into memory, so that weights
take none until they are known to be those of the network that is described.
"""

from __future__ import annotations

import pickle
import pickletools
import reprlib
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from experiments.cli import commands
from experiments.errors import UserError
from experiments.record.foreign import check_regular, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from models.network import Network

MAX_BYTES = 8 * 2**30
"""Larger files are not read."""

_STRUCTURE = 3 * 2**20  # bytes that say what there is: the largest network with AdamW has 2.2 MiB
_RECORDS = 2**16  # one for each tensor: the largest network with AdamW has 23,188
_LARGEST = 2**16  # number in a description
_LEAVES = 1000  # values in a tuple and the tuples within it: sizes, strides, pairs of settings
_FUNCTIONS = frozenset(
    {"collections OrderedDict"}
    | {f"torch._utils _rebuild_{kind}" for kind in ("tensor_v2", "tensor_v3", "parameter")}
)
_TYPES = ("float", "uint", "int", "bfloat", "bool", "complex")  # as the names of dtypes begin

_NETWORK = "network."  # before the names of the network's weights
_RULE = "a checkpoint must be one that vaesweep wrote (checkpoints/best.ckpt of a trial)"


@dataclass(frozen=True)
class Saved:
    """What `models.vae.VAE` has saved of a network.

    Attributes:
        path: of the checkpoint.
        name: of the architecture, as in `conf/model/`.
        options: of the architecture.
        image_shape: (C, H, W).
        latent_dim: number of latent units.
        weights: by their names in the network, mapped from the file.
    """

    path: Path
    name: str
    options: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    latent_dim: int
    weights: Mapping[str, Tensor]

    def network(self) -> Network:
        """The network with its weights, float32, on the CPU, in evaluation mode, not to be trained.

        Raises:
            UserError: the weights are not those of the network that is described, or not finite.
        """
        import torch

        try:
            # Without memory of its own: a description cannot ask for more than the file holds.
            with torch.device("meta"):
                network = models.create(
                    self.name,
                    image_shape=self.image_shape,
                    latent_dim=self.latent_dim,
                    **self.options,
                )
            wanted = network.state_dict()
            _compare(wanted, self.weights)
            network.load_state_dict(
                {n: w.to(wanted[n].dtype, copy=True) for n, w in self.weights.items()}, assign=True
            )
        # TypeError: of an option's value, which a network from outside need not check.
        except (ValueError, RuntimeError, TypeError) as error:
            raise UserError(
                "the weights of a checkpoint must be those of the network that it describes, but "
                f"in {self.path} they are not: {first_line(error)[:300]}"
            ) from error
        for name, weight in network.state_dict().items():
            if not weight.isfinite().all():
                raise UserError(
                    f"the weights of a checkpoint must be finite, but {name} of {self.path} is not"
                )
        return network.eval().requires_grad_(False)


def read_saved(path: Path) -> Saved:
    """What a checkpoint says of its network, and the network's weights.

    Raises:
        UserError: it is truncated, foreign, damaged, or of another schema.
    """
    try:
        content = read_checkpoint(path, mapped=True)
    except OSError as error:
        raise UserError(
            f"a checkpoint must be a readable file, but {path}: {error.strerror}"
        ) from error
    except ValueError as error:
        raise UserError(f"{_RULE}, but {path} is not: {error}") from error
    described = content.get("vaesweep")
    if not isinstance(described, dict) or "state_dict" not in content:
        keys = ", ".join(sorted(key for key in content if isinstance(key, str))[:8])
        raise UserError(
            f"{_RULE}, but {path} holds no description of the network; keys are {keys or 'missing'}"
        )
    _check_schema(described.get("schema"), path)
    options: Any = described.get("model")
    shape: Any = described.get("image_shape")
    latents: Any = described.get("latent_dim")
    if not (_is_options(options) and _is_shape(shape) and _is_count(latents)):
        raise UserError(
            f"{_RULE}, but the description of the network in {path} is damaged: "
            f"{reprlib.repr(described)[:300]}"
        )
    options = models.complete(options, recorded=True)
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{_RULE}, but {path} holds no tensors under state_dict")
    weights = {n.removeprefix(_NETWORK): w for n, w in state.items() if n.startswith(_NETWORK)}
    return Saved(path, options.pop("name"), options, tuple(shape), latents, weights)


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[Any, Any]:
    """What a checkpoint of PyTorch holds: dense tensors and plain values; see `load_tensors`.

    Raises:
        ValueError: it holds anything else, cannot be read, or its tensors are larger than the file.
        OSError: it cannot be opened.
    """
    try:
        content = load_tensors(path, mapped=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            "it holds more than dense tensors and plain values, and nothing of it was run"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    state = content.get("state_dict")
    _refuse_repetition(state if isinstance(state, dict) else {}, path)
    return content


def load_tensors(path: Path, *, mapped: bool = False) -> Any:
    """What `torch.save` wrote to a file, if that is dense tensors and plain values.

    Args:
        path: of the file.
        mapped: whether tensors stay in the file until they are read; nobody may write it meanwhile.

    Raises:
        pickle.UnpicklingError: it is anything else; the message names it as PyTorch does.
        ValueError: it cannot be read.
        OSError: it cannot be opened.
    """
    import torch

    size = check_regular(path)
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 2**30:.1f} GiB, more than {MAX_BYTES // 2**30}")
    path.open("rb").close()  # PyTorch's own error says not why
    try:
        _refuse_strange(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, _StrangeError):
        raise
    # What PyTorch's reader and unpickler make of broken bytes.
    except (
        zipfile.BadZipFile, RuntimeError, EOFError, KeyError, ValueError, TypeError,
        AttributeError, IndexError, ImportError, OverflowError, MemoryError, AssertionError,
        NotImplementedError, struct.error,
    ) as error:  # fmt: skip
        raise ValueError("it is no file of torch.save, or only a part of one") from error


class _StrangeError(ValueError):
    """What no file of `torch.save` with weights or images is."""


def _refuse_strange(path: Path) -> None:
    """Look at a file before anything is made of it, at last as PyTorch's reader sees it."""
    import torch

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        is_stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        # PyTorch writes check sums, but does not compare them when it reads.
        damaged = archive.testzip() if is_stored else None
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise _StrangeError("it holds a TorchScript program")
    if damaged is not None:
        raise _StrangeError(f"its part {damaged} is damaged")
    if not is_stored:
        raise _StrangeError("it is a compressed archive, which PyTorch does not write")
    _refuse_verbose((m.filename.partition("/")[2], m.file_size) for m in members)
    reader = torch._C.PyTorchFileReader(str(path))
    _refuse_verbose((name, reader.get_record_size(name)) for name in reader.get_all_records())
    _check_structure(reader.get_record("data.pkl"))


def _refuse_verbose(records: Iterable[tuple[str, int]]) -> None:
    """Refuse names and bytes of what is in a file, where all but tensors are too large."""
    sizes = [0 if name.startswith("data/") else size for name, size in records]
    if len(sizes) > _RECORDS or max(sizes, default=0) > _STRUCTURE:
        raise _StrangeError("it says more of what there is than any network needs")


def _check_structure(data: bytes) -> None:
    """Follow what a pickle puts together, without doing it.

    Raises:
        pickle.UnpicklingError: it asks for more than dense tensors and plain values.
        ValueError: it is broken.
    """
    stack: list[int | None] = []  # how many values a tuple holds, 0 for a type, 1 for all else
    memo: dict[Any, int | None] = {}
    for code, argument, _ in pickletools.genops(data):
        name = code.name
        if name == "GLOBAL":
            stack.append(_global(str(argument)))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(None)
        else:
            taken: list[int | None] = []
            for kind in reversed(code.stack_before):
                if kind is pickletools.markobject:
                    while (value := stack.pop()) is not None:
                        taken.append(value)
                elif kind is not pickletools.stackslice:
                    taken.append(stack.pop())
            held = 1 + sum(filter(None, taken)) if name.startswith("TUPLE") else 1
            if held > _LEAVES:
                raise pickle.UnpicklingError("it has tuples within tuples without end")
            if name in ("REDUCE", "NEWOBJ") and 0 in taken[1:]:
                raise pickle.UnpicklingError("it calls a type")
            stack += [held] * len(code.stack_after)


def _global(name: str) -> int:
    """0 for a type of tensors or storages, 1 for what makes tensors and dictionaries.

    Raises:
        pickle.UnpicklingError: it is neither.
    """
    if name in _FUNCTIONS:
        return 1
    module, _, kind = name.partition(" ")
    is_type = module == "torch" and (kind.endswith("Storage") or kind.startswith(_TYPES))
    if not is_type and name != "torch.storage UntypedStorage":
        raise pickle.UnpicklingError(f"GLOBAL {name.replace(' ', '.')}")
    return 0


def _check_schema(schema: object, path: Path) -> None:
    if type(schema) is int and schema == models.CHECKPOINT_SCHEMA:
        return
    newer = isinstance(schema, int) and schema > models.CHECKPOINT_SCHEMA
    remedy = (
        "update vaesweep"
        if newer
        else "use the version of vaesweep that wrote it, or train the trial again from its "
        f"record: {commands.module('experiments.rerun', str(path.absolute().parents[1]))}"
    )
    raise UserError(
        f"a checkpoint must have schema {models.CHECKPOINT_SCHEMA}, but {path} has "
        f"{reprlib.repr(schema)}; {remedy}"
    )


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_count, value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _is_options(value: object) -> bool:
    """Whether it is a network's name with options, none of which could ask for any memory."""
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and isinstance(value.get("name"), str)
        and not {"image_shape", "latent_dim"} & value.keys()
        and all(
            isinstance(option, str) or (isinstance(option, int | float) and abs(option) <= _LARGEST)
            for option in value.values()
        )
    )


def _compare(wanted: Mapping[str, Tensor], weights: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the weights are those of a network, before they take memory."""
    missing, more = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    if missing or more:
        what = f"{min(missing)} is missing" if missing else f"{min(more)} is none of its weights"
        raise ValueError(what)
    for name, own in wanted.items():
        weight = weights[name]
        if weight.shape != own.shape or weight.is_floating_point() != own.is_floating_point():
            raise ValueError(
                f"{name} must be {own.dtype} {tuple(own.shape)}, but is {weight.dtype} "
                f"{tuple(weight.shape)}"
            )


def _refuse_repetition(state: Mapping[Any, Any], path: Path) -> None:
    """Refuse tensors that are larger than their file: views that repeat a few values.

    Raises:
        ValueError: they are, or there is what is no tensor.
    """
    import torch

    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError("it holds no tensors under state_dict")
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if needed > path.stat().st_size:
        raise ValueError(f"its tensors need {needed:,} bytes, more than the file has")
