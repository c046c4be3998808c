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
    "sweeps": {"experiments", "models", "losses"},
    "experiments": {"models", "losses"},
    "models": set(),
    "losses": set(),
    "analysis": {"experiments", "models", "losses"},
    "serving": {"experiments", "models", "losses"},
}
"""Our packages, and which of our others each may import."""

MAY_READ_WITH = {
    "analysis": {
        "sweeps.storage.answers",
        "sweeps.storage.databases",
        "sweeps.results.importance",
        "sweeps.storage.opening",
        "sweeps.study",
        "sweeps.storage.attributes",
        "sweeps.study.definition",
    },
}
"""Single modules beyond that, which read a study or write an override, and know no worker."""

ROOMS = {
    "sweeps.space": {"sweeps.space.jobs"},
    "sweeps.search": {"sweeps.storage.attributes", "sweeps.results.pareto", "sweeps.space"},
}
"""Rooms of a package, and what else of the package each may import."""

HYDRA_IN_EXPERIMENTS = {
    "experiments/config.py",
    "experiments/grammar.py",
    "experiments/guard.py",
    "experiments/terminal.py",
}

KNOWN_ONLY_IN = {
    "hydra": {"run.py", "sweeps/", *HYDRA_IN_EXPERIMENTS},
    "omegaconf": {"run.py", "sweeps/", *HYDRA_IN_EXPERIMENTS},
    "optuna": {"sweeps/", "analysis/", "serving/studies.py"},
    "wandb": {"experiments/tracking", "analysis/", "serving/artifacts.py"},
}
"""Libraries that must not spread."""


def imported(source: str) -> set[str]:
    """Every module that a source text imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named if node.module in MAY_IMPORT else {node.module}
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


def within(room: str) -> dict[str, set[str]]:
    """The modules of a room, and which of the package's modules each imports, lazily or not."""
    package = room.split(".")[0]
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py")]
    known = {".".join(path.parts) for path in paths}
    found = {}
    for path in (ROOT / room.replace(".", "/")).glob("[!_]*.py"):
        named = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[f"{room}.{path.stem}"] = named & known
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_imports_one_way(room: str) -> None:
    modules = within(room)
    assert len(modules) <= 10
    allowed = (room, *ROOMS[room])
    for module, imports in modules.items():
        strangers = {i for i in imports if not any(f"{i}.".startswith(f"{a}.") for a in allowed)}
        assert strangers == set(), module
    graphlib.TopologicalSorter(modules).prepare()  # refuses a circle


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
