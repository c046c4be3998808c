"""The lock file and pyproject.toml agree with each other and with the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shipping import ROOT, locked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PROJECT["optional-dependencies"].items()
}
OURSELVES = [found for found in EXTRAS["dev"] if found.name == PROJECT["name"]]
OPTIONAL = [found for lines in EXTRAS.values() for found in lines if found not in OURSELVES]
CUDA = [pin for pin, _ in locked("requirements.cuda.lock")]
PINS = [pin for pin, _ in locked("requirements.lock")]
PINS += [pin for pin in CUDA if pin.name == "torch"]
MODULES = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "hydra": "hydra-core",
    "hydra_plugins": "hydra-optuna-sweeper",
    "google": "protobuf",
    "lightning_fabric": "pytorch-lightning",
    "skimage": "scikit-image",
    "grpc": "grpcio",
    "prometheus_client": "prometheus-client",
}


def test_every_pin_is_one_version_by_name_alone() -> None:
    for pin in PINS:
        assert pin.url is None
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)
        assert "+" not in str(pin.specifier), f"{pin} is a build of one machine"


def test_what_only_a_cuda_build_of_torch_needs_is_pinned_apart() -> None:
    only = ("nvidia", "cuda", "triton")
    assert [pin.name for pin in PINS if pin.name.startswith(only)] == []
    for pin in CUDA:
        assert pin.name == "torch" or 'sys_platform == "linux"' in str(pin.marker)


@pytest.mark.parametrize("requirement", [*DECLARED, *OPTIONAL], ids=str)
def test_a_declared_package_is_pinned_within_its_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    versions = [
        next(iter(pin.specifier)).version for pin in PINS if canonicalize_name(pin.name) == name
    ]
    assert versions
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True)


def test_developers_have_every_extra() -> None:
    assert [found.extras for found in OURSELVES] == [set(EXTRAS) - {"dev"}]


def test_torch_is_pinned_exactly() -> None:
    assert "torch==2.13.0" in PROJECT["dependencies"]


def third_party_imports() -> set[str]:
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()} | {"run"}
    found = set()
    packages = ("losses", "models", "experiments", "sweeps", "analysis", "serving")
    modules = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    for path in [ROOT / "run.py", *modules]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - ours - set(sys.stdlib_module_names)


def test_everything_that_is_imported_is_declared() -> None:
    chosen = [found for extra, lines in EXTRAS.items() if extra != "dev" for found in lines]
    declared = {canonicalize_name(requirement.name) for requirement in [*DECLARED, *chosen]}
    imported = {canonicalize_name(MODULES.get(name, name)) for name in third_party_imports()}
    assert imported - declared == set()


def test_the_workflow_runs_what_developers_run_on_every_supported_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    (minutes,) = re.findall(r"^minutes=(\d+)", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert int(minutes) < job["timeout-minutes"]
    assert "for target in test test-processor" in (ROOT / ".ci" / "run").read_text()
