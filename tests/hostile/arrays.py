"""Arrays and archives that swell, lie or lead out of themselves."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tests.hostile.files import Made, kind


def header(shape: Any, descr: Any = "<f8", version: tuple[int, int] = (1, 0)) -> bytes:
    """The beginning of an .npy file that declares what it likes."""
    file = io.BytesIO()
    text = repr({"descr": descr, "fortran_order": False, "shape": shape})
    padded = (text + " " * (63 - len(text) % 64)).encode() + b"\n"
    file.write(b"\x93NUMPY" + bytes(version))
    file.write(len(padded).to_bytes(2 if version == (1, 0) else 4, "little") + padded)
    return file.getvalue()


def _members(random: Random) -> dict[str, bytes]:
    zeros = bytes(400 * 2**20)
    return {
        "more than there is": header((10**13,)) + bytes(64),
        "overflowing": header((2**62, 2**62, 4)) + bytes(64),
        "negative": header((-5,)) + bytes(64),
        "swelling": header((50 * 2**20,)) + zeros,
        "swelling grey": header((100 * 2**16, 8, 8), "|u1") + zeros,
        "a header that swells": b"\x93NUMPY\x02\x00" + (399 * 2**20).to_bytes(4, "little") + zeros,
        "of objects": header((1,), "|O") + pickle.dumps([1]),
        "of no bytes": header((10**18,), "|V0"),
        "of texts": header((4,), "<U4") + bytes(64),
        "of structures": header((2,), [("a", "<f8"), ("b", "|O")]) + bytes(64),
        "a deep header": b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000,
        "of one number": header(()) + bytes(8),
        "of 64 axes": header((1,) * 64) + bytes(8),
        "of NaN": header((4,)) + np.full(4, np.nan).tobytes(),
        "no array": b"hello",
        "cut": header((100,)) + bytes(random.randrange(700)),
    }


@kind
def scores(folder: Path, honest: Path, random: Random) -> Made:
    """validation.npz of a record."""
    for i, (name, data) in enumerate(_members(random).items()):
        own = Path(shutil.copytree(honest, folder / str(i)))
        with np.load(own / "validation.npz") as whole:
            arrays = dict(whole)
        chosen = random.choice(["mse", "kl_per_unit", "mean_per_unit"])
        with zipfile.ZipFile(own / "validation.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for key, array in arrays.items():
                file = io.BytesIO()
                np.save(file, array)
                archive.writestr(f"{key}.npy", data if key == chosen else file.getvalue())
        yield f"{chosen} {name}", "serve", str(own)
    many = Path(shutil.copytree(honest, folder / "many"))
    with zipfile.ZipFile(many / "validation.npz", "a") as archive:
        for i in range(20_000):
            archive.writestr(f"m{i}.npy", b"")
    yield "many members", "serve", str(many)


@kind
def images_in_arrays(folder: Path, honest: Path, random: Random) -> Made:
    for i, (name, data) in enumerate(_members(random).items()):
        path = folder / f"{i}.{random.choice(['npy', 'npz'])}"
        if "swell" in name or path.suffix == ".npz":
            path = path.with_suffix(".npz")
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("images.npy", data)
        else:
            path.write_bytes(data)
        yield f"{path.suffix} {name}", "images", str(path)
    repeated = {
        "one value": torch.zeros(1).expand(10**6, 3, 64, 64),
        "sparse": torch.zeros(2, 3, 8, 8).to_sparse(),
        "meta": torch.zeros(10**6, 3, 64, 64, device="meta"),
        "nested": [[torch.zeros(3, 8, 8)]],
        "keys": {("a", 1): torch.zeros(2, 3, 8, 8)},
    }
    for name, value in repeated.items():
        torch.save(value, folder / f"{name}.pt")
        yield name, "images", str(folder / f"{name}.pt")


def _entry(name: str, size: int = 0, of: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, of, link
    return info.tobuf(tarfile.GNU_FORMAT)


def _zeros(mebibytes: int) -> bytes:
    """Of gzip: members of zeros, one after the other."""
    return gzip.compress(bytes(2**26), 1) * (mebibytes // 64)


@kind
def archives(folder: Path, honest: Path, random: Random) -> Made:
    large = 3 * 2**30
    begun = {
        "a long name": _entry("x", large, tarfile.GNUTYPE_LONGNAME),
        "a long link": _entry("x", large, tarfile.GNUTYPE_LONGLINK),
        "a pax header": _entry("x", large, tarfile.XHDTYPE),
        "a global pax header": _entry("x", large, tarfile.XGLTYPE),
        "a large file": _entry("x.png", large),
        "a sparse file": _entry("x.png", large, tarfile.GNUTYPE_SPARSE),
        "a negative size": _entry("x.png").replace(b"00000000000\0", b"\xff" * 12, 1),
    }
    for i, (name, start) in enumerate(begun.items()):
        path = folder / f"{i}.tar.gz"
        path.write_bytes(gzip.compress(start) + _zeros(3072))
        yield name, "images", str(path)
    empties = gzip.compress(b"".join(_entry(f"{i}.txt") for i in range(10_000)), 1)
    for name in ("files", "pictures"):
        (folder / f"{name}.tar.gz").write_bytes(
            (empties if name == "files" else gzip.compress(_entry("a.png") * 10_000, 9)) * 40
        )
        yield f"many empty {name}", "images", str(folder / f"{name}.tar.gz")
    sparse = b"GNU.sparse.major=1\nGNU.sparse.minor=0\n"
    records = b"".join(b"%d %s" % (len(r) + 4, r + b"\n") for r in sparse.splitlines())
    padded = records + bytes(-len(records) % 512)
    text = gzip.compress(_entry("x", len(records), tarfile.XHDTYPE) + padded + _entry("y", large))
    digits = gzip.compress(b"1000000000\n" + b"0\n" * 2**25, 1)
    (folder / "map.tar.gz").write_bytes(text + digits * 4)
    yield "a map of holes", "images", str(folder / "map.tar.gz")
    outside = {
        "../x.png": _entry("../x.png"), "/etc/x.png": _entry("/etc/x.png"),
        "a link out": _entry("a.png", 0, tarfile.SYMTYPE, "../../etc/passwd"),
        "a hard link out": _entry("a.png", 0, tarfile.LNKTYPE, "/etc/passwd"),
        "a device": _entry("a.png", 0, tarfile.CHRTYPE), "a pipe": _entry("a", 0, tarfile.FIFOTYPE),
        "escapes": _entry("\x1b]0;owned\x07.png", 0), "cut": _entry("a.png", 9999)[:300],
        "no text": bytes(range(256)) * 4,
    }  # fmt: skip
    for i, (name, data) in enumerate(outside.items()):
        (folder / f"out{i}.tar").write_bytes(data)
        yield name, "images", str(folder / f"out{i}.tar")
    for i, (name, swollen) in enumerate(
        {"../x.png": 0, "C:\\x.png": 0, "a.png": 2**28 + 1}.items()
    ):
        with zipfile.ZipFile(folder / f"{i}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, bytes(swollen))
            archive.writestr("b/../../c", b"x") if i == 2 else None
        yield f"a zip with {name}", "images", str(folder / f"{i}.zip")
    with zipfile.ZipFile(
        folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        zeros = bytes(2**28)
        for i in range(5):
            archive.writestr(f"{i}.png", zeros)
    yield "a zip that swells", "images", str(folder / "bomb.zip")
