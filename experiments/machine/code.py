"""Which code a trial ran: its commit, hashes of its sources, and the versions of its packages."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.machine import plugins
from losses.trust import trusted_packages

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_REVISION = "VAESWEEP_REVISION"  # set in images
_OWN = ("experiments", "losses", "models")
_PACKAGES = (
    "torch", "pytorch-lightning", "hydra-core", "optuna", "wandb", "monai", "kornia",
    "torchmetrics", "numpy", "pillow",
)  # fmt: skip


def code_revision() -> dict[str, Any]:
    """Commit of the working tree that this code runs from, whether it was changed, and hashes.

    Those are of the sources of each package that trains: ours, and what the user named for us to
    import. An image has no working tree; there the commit is the one that it was built from.
    """
    named = [*_OWN, *trusted_packages(), *plugins.named()]
    hashes = {top: source_hash(top) for top in (name.partition(".")[0] for name in named)}
    return _commit() | {"sources": {name: found for name, found in hashes.items() if found}}


def own_version() -> str:
    """The version of this project."""
    try:
        return str(tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"])
    except FileNotFoundError:  # installed without it
        return version("vaesweep")


@cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages that a result may depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """What differs of the code of two results that have it both: what it was and is, by name."""
    old, new = _versions(before), _versions(now)
    return {name: [old[name], new[name]] for name in old if new.get(name, old[name]) != old[name]}


def _versions(result: Mapping[str, Any]) -> dict[str, str]:
    sources = result["code"].get("sources", {})  # older records lack them
    return {
        "python": result["python"],
        **result["packages"],
        **{f"source of {name}": found for name, found in sources.items()},
    }


@cache
def _commit() -> dict[str, Any]:
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": os.environ.get(_REVISION) or None, "dirty": None}


@cache
def source_hash(name: str) -> str | None:
    """Of the sources of a module, or of all of a package's; None where there are none."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand
        return None
    if spec is None:
        return None
    paths = [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
    digest, found = blake2b(digest_size=8), False
    for path in paths:
        for file in _sources(path) if path.is_dir() else [path]:
            if file.suffix == ".py":
                digest.update(f"{file.relative_to(path)}\n".encode() + file.read_bytes())
                found = True
    return digest.hexdigest() if found else None


def _sources(folder: Path) -> Iterator[Path]:
    """Of a package and those within it; a folder of data beside them is not looked into."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            yield path
        elif (path / "__init__.py").is_file():
            yield from _sources(path)
