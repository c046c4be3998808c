"""Checkpoints that ask for memory, time or code, or that are broken."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.hostile.files import Made, kind

BEST = "checkpoints/best.ckpt"
_STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
)


def _described(values: dict[str, Any], content: dict[str, Any]) -> None:
    content["vaesweep"].update(values)


def _weighed(values: dict[str, Any], content: dict[str, Any]) -> None:
    content["state_dict"].update(values)


def _applied(change: Callable[[dict[str, Any]], object], content: dict[str, Any]) -> None:
    change(content["vaesweep"])


def _set(key: str, value: Any, described: dict[str, Any]) -> None:
    (described if key == "latent_dim" else described["model"])[key] = value


def _content(honest: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(honest / BEST, weights_only=True)
    return content


def _changed(path: Path, honest: Path, change: Callable[[dict[str, Any]], object]) -> str:
    content = _content(honest)
    change(content)
    torch.save(content, path)
    return str(path)


def _pickled(path: Path, structure: bytes, *, storage: bytes = b"\0" * 4) -> str:
    """A file of PyTorch's format with a structure of one's own."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w") as written:
        for name in whole.namelist():
            held = {"data.pkl": structure, "0": storage}.get(name.rpartition("/")[2])
            written.writestr(name, whole.read(name) if held is None else held)
    return str(path)


def _called(function: bytes, *arguments: int) -> bytes:
    numbers = b"".join(b"\x8a\x06" + n.to_bytes(6, "little", signed=True) for n in arguments)
    return b"\x80\x02c" + function + b"\n(" + numbers + b"tR."


def _tensor(count: int, stride: int) -> bytes:
    size = b"\x8a\x06" + count.to_bytes(6, "little", signed=True) + b"\x85"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"K\x00" + size + b"K"
        + bytes([stride]) + b"\x85\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


def _twice(times: int, around: bytes) -> bytes:
    """A tuple that holds the one before twice, so often that nobody comes to its end."""
    body = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(times))
    return body + around.replace(b"LAST", b"h%c" % times)


@kind
def truncated(folder: Path, honest: Path, random: Random) -> Made:
    whole = (honest / BEST).read_bytes()
    for i, length in enumerate(
        [0, 1, len(whole) - 1, *(random.randrange(len(whole)) for _ in "abcd")]
    ):
        (folder / f"{i}.ckpt").write_bytes(whole[:length])
        yield f"{length} bytes", "serve", str(folder / f"{i}.ckpt")


@kind
def flipped(folder: Path, honest: Path, random: Random) -> Made:
    for i in range(12):
        data = bytearray((honest / BEST).read_bytes())
        for _ in range(random.choice([1, 10, 1000])):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        (folder / f"{i}.ckpt").write_bytes(data)
        yield f"flipped {i}", "serve", str(folder / f"{i}.ckpt")


@kind
def greedy(folder: Path, honest: Path, random: Random) -> Made:
    """Plain values and tensors that ask for more memory than there is."""
    hexed = b"\x80\x02X\x40\x00\x00\x00" + b"a" * 64 + b"q\x00"
    doubled = b"".join(
        b"c_codecs\nencode\nh%cX\x05\x00\x00\x00utf16\x86Rq%c" % (i, i + 1) for i in range(1)
    ) + b"".join(
        b"c_codecs\nencode\nh%cX\x03\x00\x00\x00hex\x86Rq%c" % (i, i + 1) for i in range(1, 26)
    )
    asked = {
        "a bytearray": _called(b"builtins\nbytearray", 3 * 10**9),
        "a tensor by its class": _called(b"torch\nTensor", 10**9),
        "a storage by its class": _called(b"torch.storage\nUntypedStorage", 3 * 10**9),
        "a storage by a new object": _called(b"torch.storage\nUntypedStorage", 3 * 10**9).replace(
            b"tR.", b"t\x81."
        ),
        "a typed storage": _called(b"torch\nFloatStorage", 10**9),
        "stride 0": _tensor(10**10, 0),
        "stride 1": _tensor(10**10, 1),
        "a negative size": _tensor(-5, 1),
        "text that doubles": hexed + doubled + b".",
        "a stride of 0, copied": b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n("
        + _tensor(10**9, 0)[2:-1] + b"ctorch\nfloat64\nX\x03\x00\x00\x00cpu\x89tR.",
        "a million dictionaries": b"\x80\x02](" + b"}" * 2_900_000 + b"e.",
        "more dictionaries than there may be": b"\x80\x02](" + b"}" * 60_000_000 + b"e.",
    }  # fmt: skip
    for i, (name, structure) in enumerate(asked.items()):
        yield name, "serve", _pickled(folder / f"{i}.ckpt", structure)
    whole = _content(honest)["state_dict"]
    first = next(iter(whole))
    yield "a weight of one value", "serve", _changed(
        folder / "one.ckpt", honest, lambda c: c["state_dict"].update(
            {first: torch.zeros(1).expand(10**10)}
        ),
    )  # fmt: skip
    yield "wide weights of one value", "serve", _changed(folder / "all.ckpt", honest, _widened)


def _widened(content: dict[str, Any]) -> None:
    import models

    described = content["vaesweep"]
    described["model"]["width"], described["latent_dim"] = 4096, 4096
    with torch.device("meta"):
        network = models.create(
            "conv", image_shape=(3, 32, 32), latent_dim=4096, width=4096, upsampling="nearest"
        )
    content["state_dict"] = {
        f"network.{name}": torch.zeros(()).expand(weight.shape)
        for name, weight in network.state_dict().items()
    }


class _Runs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


@kind
def code(folder: Path, honest: Path, random: Random) -> Made:
    harmful = _Runs(folder / "ran")
    for place in ("more", "vaesweep", "state_dict"):
        path = folder / f"{place}.ckpt"
        torch.save(_content(honest) | {place: harmful}, path)
        yield place, random.choice(["serve", "export"]), str(path)
    (folder / "old.ckpt").write_bytes(pickle.dumps(harmful))
    yield "an old format", "serve", str(folder / "old.ckpt")
    torch.save(_content(honest), folder / "legacy.ckpt", _use_new_zipfile_serialization=False)
    yield "the old format of tensors", "serve", str(folder / "legacy.ckpt")
    yield "eval", "serve", _pickled(
        folder / "eval.ckpt", b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."
    )  # fmt: skip


@kind
def endless(folder: Path, honest: Path, random: Random) -> Made:
    """Values that hold each other, so that whoever walks, hashes or prints them never ends."""
    made = {
        "a key": b"}LASTK\x01s.",
        "a key of the content": b"}X\x08\x00\x00\x00vaesweep}LASTK\x01ss.",
        "pairs": b"ccollections\nOrderedDict\n]LASTK\x01\x86a\x85R.",
        "a storage": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nLAST"
        b"X\x03\x00\x00\x00cpuK\x01tQ.",
    }
    for i, (name, around) in enumerate(made.items()):
        yield name, "serve", _pickled(folder / f"{i}.ckpt", _twice(60, around))
    nested: Any = [0]
    for _ in range(60):
        nested = [nested, nested]
    for key in ("model", "image_shape", "latent_dim", "schema"):
        yield f"{key} that is nested", "serve", _changed(
            folder / f"{key}.ckpt", honest, partial(_described, {key: nested})
        )  # fmt: skip
    yield "an option", "serve", _changed(
        folder / "option.ckpt", honest, lambda c: c["vaesweep"]["model"].update(width=nested)
    )  # fmt: skip
    deep = b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b"."
    yield "lists in lists", "serve", _pickled(folder / "deep.ckpt", deep)
    yield "tuples in tuples", "serve", _pickled(
        folder / "tuples.ckpt", b"\x80\x02}" + b")" + b"\x85" * 2_000_000 + b"K\x01s."
    )  # fmt: skip


@kind
def strange_tensors(folder: Path, honest: Path, random: Random) -> Made:
    name = "network.from_latent.weight"
    own = _content(honest)["state_dict"][name]
    dense = own.clone()
    strange = {
        "sparse": dense.to_sparse(),
        "compressed": dense.to_sparse_csr(),
        "meta": dense.to("meta"),
        "float8": dense.to(torch.float8_e4m3fn),
        "quantized": torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "complex": dense.to(torch.complex64),
        "integers": dense.long(),
        "booleans": dense.bool(),
        "doubles": dense.double(),
        "halves": dense.half(),
        "without values": torch.zeros(0),
        "of no dimension": torch.zeros(()),
        "of 60 dimensions": torch.zeros([1] * 60),
        "infinite": torch.full_like(dense, float("inf")),
        "a parameter": torch.nn.Parameter(dense),
        "a list": dense.tolist(),
        "a text": "\x1b[2Jowned",
        "nothing": None,
    }
    strange["nested"] = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    for i, (what, value) in enumerate(strange.items()):
        yield what, random.choice(["serve", "weights"]), _as_record(
            folder / str(i), honest, partial(_weighed, {name: value})
        )  # fmt: skip


def _as_record(directory: Path, honest: Path, change: Callable[[dict[str, Any]], object]) -> str:
    shutil.copytree(honest, directory)
    _changed(directory / BEST, honest, change)
    return str(directory)


@kind
def descriptions(folder: Path, honest: Path, random: Random) -> Made:
    """Of networks, wrong or absurd."""
    numbers: list[Any] = [
        0,
        -1,
        2**62,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        True,
        None,
        "\x1b]0;x\x07",
        [],
        {},
    ]
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "an option called image_shape": lambda v: v["model"].update(image_shape=[3, 32, 32]),
        "an option called latent_dim": lambda v: v["model"].update(latent_dim=3),
        "an option that is a number": lambda v: v["model"].update({1: 2}),
        "an option that is nothing": lambda v: v["model"].update({None: 2}),
        "an option that is a tuple": lambda v: v["model"].update({("a", 1): 2}),
        "an unknown option": lambda v: v["model"].update({"\x1b[31mred": 2}),
        "an option self": lambda v: v["model"].update(self=1),
        "a name of code": lambda v: v["model"].update(name="os.system"),
        "a name that is a list": lambda v: v["model"].update(name=["conv"]),
        "no name": lambda v: v["model"].pop("name"),
        "a tensor for a size": lambda v: v.update(latent_dim=torch.tensor(4)),
        "a shape of texts": lambda v: v.update(image_shape=["3", "32", "32"]),
        "a huge shape": lambda v: v.update(image_shape=[3, 2**40, 2**40]),
        "another schema": lambda v: v.update(schema=10**30),
        "a schema of text": lambda v: v.update(schema="\x1b[2J1"),
    }
    for key in ("latent_dim", "width", "upsampling"):
        for value in random.sample(numbers, 5):
            changes[f"{key}={value!r}"] = partial(_set, key, value)
    for i, (name, change) in enumerate(changes.items()):
        yield name, random.choice(["serve", "weights"]), _as_record(
            folder / str(i), honest, partial(_applied, change)
        )  # fmt: skip


@kind
def containers(folder: Path, honest: Path, random: Random) -> Made:
    """Archives around a checkpoint that swell, lie or have no end."""
    with zipfile.ZipFile(honest / BEST) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    top = next(iter(members)).partition("/")[0]

    def zipped(name: str, more: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> str:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, data in (members | {f"{top}/{k}": v for k, v in more.items()}).items():
                archive.writestr(member, data, how if len(data) > 2**20 else zipfile.ZIP_STORED)
        return str(folder / name)

    zeros = b"\0" * (2**20 * 400)
    for name in ("data.pkl", "byteorder", "version"):
        yield f"{name} that swells", "serve", zipped(
            f"{name}.ckpt", {name: zeros}, zipfile.ZIP_DEFLATED
        )  # fmt: skip
    del zeros
    with zipfile.ZipFile(folder / "all.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    yield "compressed again", "serve", str(folder / "all.ckpt")
    yield "many members", "serve", zipped("many.ckpt", {f"data/m{i}": b"" for i in range(70_000)})
    for name, data in {"text": b"hello", "an executable": b"\x7fELF" + b"\0" * 999,
                       "an empty archive": b"PK\5\6" + b"\0" * 18}.items():  # fmt: skip
        (folder / f"{name}.ckpt").write_bytes(data)
        yield name, "serve", str(folder / f"{name}.ckpt")
    lies = bytearray((honest / BEST).read_bytes())
    lies[-10:-6] = struct.pack("<I", 0xFFFFFFF0)
    (folder / "lies.ckpt").write_bytes(lies)
    yield "a directory beyond the end", "serve", str(folder / "lies.ckpt")


@kind
def no_files(folder: Path, honest: Path, random: Random) -> Made:
    """What has a name, but is no file that ends."""
    os.mkfifo(folder / "pipe.ckpt")
    (folder / "folder.ckpt").mkdir()
    (folder / "loop.ckpt").symlink_to("loop.ckpt")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(os.path.relpath(folder / "socket.ckpt"))
    with (folder / "sparse.ckpt").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "folder", "loop", "socket", "sparse"):
        yield name, random.choice(["serve", "export"]), str(folder / f"{name}.ckpt")
    for device in ("/dev/zero", "/dev/null", "/dev/full"):
        yield device, "serve", device
    for name in ("result.json", BEST, "validation.npz", "history.jsonl", "config.json"):
        directory = folder / f"pipe-{name.replace('/', '-')}"
        shutil.copytree(honest, directory)
        (directory / name).unlink()
        os.mkfifo(directory / name)
        for reader in ("serve", "analyse"):
            yield f"{name} is a pipe, {reader}", reader, str(directory)
