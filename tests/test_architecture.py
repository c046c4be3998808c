"""Who may import whom, read from the source (see the table)."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "run": {"analysis", "experiments", "sweeps"},
    "decisions": set(),
    "sweeps": {"decisions", "experiments", "models", "losses"},
    "experiments": {"models", "losses"},
    "models": set(),
    "losses": set(),
    "analysis": {"decisions", "experiments", "models", "losses"},
    "serving": {"experiments", "models", "losses"},
}
"""Our packages, and which of our others each may import."""

MAY_READ_WITH = {
    "analysis": {
        "sweeps.storage.answers",
        "sweeps.storage.databases",
        "sweeps.results.importance",
        "sweeps.results.reading",
        "sweeps.storage.opening",
        "sweeps.storage.attributes",
        "sweeps.study.definition",
    },
}
"""Single modules beyond that, which read a study or write an override, and know no worker."""

ROOMS = {
    "sweeps": [
        "bounds", "system", "space", "settings", "plan", "storage", "results", "contest", "search",
        "study", "workers", "screen", "wandb", "planning", "command", "sweeper", "outcomes",
        "faults", "chaos",
    ],
    "experiments": [
        "errors", "machine", "cli", "metrics", "terminal", "record", "config", "data", "threads",
        "building", "preflight", "scoring", "tracking", "callbacks", "training", "resume", "ranks",
        "trial",
        "rerun", "sync",
    ],
    "losses": [
        "trust", "likelihood", "share", "distance", "degree", "pixel", "robust", "structural",
        "mix", "custom", "elbo",
    ],
    "models": [
        "registry", "ranks", "network", "classic", "conv", "resnet", "finite", "cuda_graph",
        "clipping", "optimizers", "vae",
    ],
    "serving": [
        "encoding", "model", "monitoring", "page", "api", "export", "generate", "server", "app",
    ],
}  # fmt: skip
"""Rooms and modules of these packages, lowest first: each imports from itself and from those before
it only. The package itself may import any."""
MOST_MODULES = 10

HYDRA_IN_EXPERIMENTS = {
    "experiments/cli/grammar.py",
    "experiments/cli/refusals.py",
    "experiments/config/",
}

KNOWN_ONLY_IN = {
    "hydra": {"run.py", "sweeps/", *HYDRA_IN_EXPERIMENTS},
    "omegaconf": {"run.py", "sweeps/", *HYDRA_IN_EXPERIMENTS},
    "optuna": {"sweeps/", "analysis/", "serving/model/studies.py"},
    "wandb": {"experiments/tracking", "analysis/", "serving/model/artifacts.py"},
}
"""Libraries that must not spread."""


def imported(source: str) -> set[str]:
    """Every module that a source text imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").exists()
                found.add(inner if is_module or node.module in MAY_IMPORT else node.module)
    return found


def violations(path: str, source: str) -> list[str]:
    """What a file at `path` (relative to the root) imports against the rules."""
    package = path.removesuffix(".py").split("/")[0]
    found = []
    for module in sorted(imported(source)):
        top = module.split(".")[0]
        granted = top in MAY_IMPORT.get(package, ()) or module in MAY_READ_WITH.get(package, ())
        if top in MAY_IMPORT and top != package and not granted:
            found.append(f"{path} imports {module}, but {package} may not import {top}")
        allowed = KNOWN_ONLY_IN.get(top)
        if allowed is not None and not any(path.startswith(place) for place in allowed):
            found.append(f"{path} imports {module}, which is known only in {sorted(allowed)}")
    return found


def files() -> Iterator[Path]:
    yield ROOT / "run.py"
    for package in MAY_IMPORT:
        yield from (ROOT / package).rglob("*.py")


@pytest.mark.parametrize("path", [p.relative_to(ROOT).as_posix() for p in files()])
def test_imports_point_one_way(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def imports_within(package: str) -> dict[str, set[str]]:
    """Of each module of a package, which others of it are imported, lazily or not."""
    paths = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in (ROOT / package).rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in paths.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    named.add(inner if inner in paths else node.module)
        found[module] = (named & paths.keys()) - {module}
    return found


def room_of(module: str, rooms: list[str]) -> int:
    """The place in the order; that of the package itself is lowest, since all lie in it."""
    inner = module.split(".")[1:]
    return rooms.index(inner[0]) if inner else -1


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_a_packages_rooms_are_in_order(package: str) -> None:
    modules, rooms = imports_within(package), ROOMS[package]
    for module, imports in modules.items():
        up = {i for i in imports if room_of(i, rooms) > room_of(module, rooms)}
        assert module == package or up == set(), module


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graphlib.TopologicalSorter(imports_within(package)).prepare()  # refuses a circle


@pytest.mark.parametrize("package", sorted([*ROOMS, "benchmarks"]))
def test_rooms_are_small(package: str) -> None:
    folders = [f for f in (ROOT / package).rglob("*") if (f / "__init__.py").exists()]
    sizes = {f.relative_to(ROOT): len([*f.glob("*.py")]) - 1 for f in [ROOT / package, *folders]}
    assert {f: size for f, size in sizes.items() if size > MOST_MODULES} == {}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/vae.py", "from losses.elbo import ELBO"),
        ("losses/mix.py", "def f():\n    import experiments.trial"),
        ("analysis/report.py", "from sweeps import workers"),
        ("analysis/report.py", "from sweeps.workers.worker import work"),
        ("serving/app.py", "from sweeps.storage.attributes import SUMMARY"),
        ("experiments/trial.py", "import hydra.utils"),
        ("experiments/callbacks.py", "import wandb"),
        ("models/conv.py", "import optuna"),
    ],
)
def test_a_planted_violation_is_found(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize("module", ["losses", "models", "experiments.config", "run"])
def test_what_a_mistake_in_the_config_needs_imports_no_heavy_library(module: str) -> None:
    import subprocess

    heavy = ["torch", "pytorch_lightning", "kornia", "monai", "wandb", "PIL", "optuna"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
