"""What is tested of a command that is shown, by its first words.

`check` runs what can be run here with its own words and a small budget, in the working directory
that it is given; what needs a cloud, an engine or hours is composed or parsed, for the reason that
stands beside it. It fails on a command that no rule knows: a rule is entered then, or the command
is mended.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import yaml
from packaging.requirements import Requirement

from tests.hydra_multirun import hydra_afresh
from tests.little import budget, composes, in_shell, run_py
from tests.places import Place
from tests.shipping import stages
from tests.shown import ROOT, Simple, pipeline

NEEDED = {
    "apt-get": "a Debian machine and root",
    "aws": "an account of Amazon",
    "az": "an account of Microsoft",
    "cd": "the clone, in which it runs",
    "echo": "nothing: it writes what is there to read",
    "envsubst": "gettext; test_deploy.py fills the same files in",
    "export": "values of one's own",
    "gcloud": "an account of Google",
    "git": "a remote repository",
    "jupyter": "a browser",
    "kubectl": "a cluster",
    "mkdir": "nothing",
    "nvidia-cuda-mps-control": "a GPU",
    "openssl": "openssl",
    "optuna-dashboard": "a browser; test_printed_commands.py starts it",
    "prometheus": "Prometheus; test_serving_monitoring.py checks its files",
    "psql": "a PostgreSQL server; test_sweep_storages.py has one",
    "ray": "an account of a cloud",
    "tensorboard": "a browser; test_tensorboard.py reads what it would show",
    "source": "the environment of `make install`, which runs this test",
    "tr": "the output of another command",
}
"""What a program needs that is not here. Files of the project that it names must exist."""

SERVED = {
    "serving.app": "it serves until it is stopped; test_serving_app.py starts and asks it",
    "experiments.sync": "it asks W&B's server; test_wandb_online.py has one of its own",
    "sweeps.chaos": "it takes minutes; test_chaos.py runs it",
    "tests.simulation": "it may take hours; tests/simulation/test_simulation.py runs the same",
    "analysis.notebooks": "it rewrites the notebooks of the project; test_notebooks.py runs them",
}
"""Modules whose arguments are parsed, and why they are not run."""

ELSEWHERE = {
    "hydra.sweeper.storage=": "a database; test_sweep_storages.py has several",
    "hydra/launcher=": "a launcher; test_sweep_launchers.py runs them",
    "sweep.gpus_per_trial=": "GPUs; test_ranks.py divides some that it makes up",
}
"""Overrides with which a command is composed, and why it is not run."""

_REMOTE = re.compile(r"\w+://(?!/)|wandb:|\w+-\w+://")
_LEFT_OPEN = {"...", "-m", "--multirun", "OVERRIDES"}


def check(simple: Simple, place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run, compose or parse a command.

    Args:
        simple: the command.
        place: makes the working directory, with what words may name.
        monkeypatch: of the test.
    """
    if not simple.words:
        return
    known = {
        "python": _python, "python3": _python, "make": _make, "docker": _docker, "wandb": _wandb,
        "dvc": _dvc, "pip": _pip, "sbatch": _sbatch, "torchrun": _ranks, "srun": _ranks,
    }  # fmt: skip
    program, *arguments = simple.words
    if program not in known:
        assert program in NEEDED, (
            f"no test knows {program!r}: enter a rule in tests/rules.py, or what it needs"
        )
        _refuse_missing_files([*arguments, *simple.files])
        return
    known[program](arguments, simple, place, monkeypatch)


def trains(simple: Simple) -> bool:
    """Whether to run a command takes more than a moment."""
    words = simple.words
    if words[:1] not in (("python",), ("python3",), ("make",), ("sbatch",), ("docker",)):
        return False
    return not {"--help", "-n"} & set(words) and words[1:] != ("run.py", "--cfg", "job")


def _refuse_missing_files(words: Sequence[str]) -> None:
    for word in words:
        for path in re.findall(r"(?:deploy|serving|sweeps|conf)/[\w./-]+", word):
            assert (ROOT / path).exists(), f"{path} does not exist"


def _python(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    target, *rest = arguments
    if target == "run.py":
        _run_py(rest, simple, place, patch)
    elif target == "-m":
        _module(rest[0], rest[1:], place, patch)
    else:
        raise AssertionError(f"no test knows {arguments}")


def _run_py(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    overrides = [w for w in arguments if w not in _LEFT_OPEN]
    multirun = bool({"-m", "--multirun"} & set(arguments))
    if any(word.startswith("-") for word in overrides):
        assert in_shell(["python", "run.py", *arguments], place().folder).returncode == 0
    elif simple.environment:
        made = place()
        made.provide(overrides)
        words = [*simple.environment, "python", "run.py", *overrides, *budget(overrides)]
        done = in_shell(words, made.folder)
        assert done.returncode == 0, done.stderr
    elif any(word.startswith(start) for word in overrides for start in ELSEWHERE):
        composes(overrides, multirun=multirun)
    elif overrides or not multirun:
        run_py(overrides, place(), patch, multirun=multirun)


class _ParsedError(Exception):
    """The arguments are right, and that is all that is wanted."""


@contextmanager
def _only_parsed(patch: pytest.MonkeyPatch) -> Any:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, *given: Any) -> NoReturn:
        parse(self, *given)
        raise _ParsedError

    with patch.context() as inner:
        inner.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        try:
            yield
        except _ParsedError:
            return
    pytest.fail("no arguments were parsed")


def _module(
    name: str, arguments: list[str], place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} does not exist"
    package = spec.submodule_search_locations is not None
    module = importlib.import_module(f"{name}.__main__" if package else name)
    assert "main" in vars(module), f"{name} is no command"
    arguments = [re.sub(r"^\[(.*)\]$", r"\1", word) for word in arguments if word != "[PATHS]"]
    if not arguments:
        return  # its name alone
    takes_hours = name.startswith("benchmarks.")
    if takes_hours:  # of which several words may be in brackets
        arguments = [word.strip("[]") for word in arguments]
    patch.setattr(sys, "argv", [name, *arguments])
    if name in SERVED or takes_hours or any(_REMOTE.match(word) for word in arguments):
        with _only_parsed(patch):
            module.main()
        return
    made = place()
    made.provide(arguments)
    patch.chdir(made.folder)
    status: Any = None
    try:
        with hydra_afresh():
            module.main()
    except SystemExit as ended:
        status = ended.code
    assert not status, f"{name} {arguments} exits with {status}"


def _make(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """What it would run: that `make` finds the target, and each Python command in its recipe."""
    dry = ["make", "-n", "-o", ".venv/installed", "BIN=.venv/bin", *arguments]
    done = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"\.venv/bin/python (run\.py|-m benchmarks\.[\w.]+)(.*)", line)
        if match:
            words = ("python", *match[1].split(), *shlex.split(match[2]))
            _python(list(words[1:]), Simple(words), place, patch)


def _docker(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """It needs an engine: what it builds must be there, and what it runs is composed."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    if arguments[0] == "build":
        if "--target" in arguments:
            assert arguments[arguments.index("--target") + 1] in stages()
    elif arguments[:2] == ["compose", "run"]:
        (name, *words) = [word for word in arguments[2:] if word != "--rm"]
        entry = services[name].get("entrypoint", ["python", "run.py"])
        composes([w for w in (*entry[2:], *words) if w != "-m"], multirun="-m" in entry)
    elif arguments[0] == "compose":
        named = [w for w in arguments[2:] if not w.startswith("-") and "=" not in w]
        assert set(named) <= set(services), f"{named} must be services of compose.yaml"
    else:
        _image(arguments[1:], patch)


def _image(arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    images = [word for word in arguments if word.startswith("vaesweep-")]
    if not images:
        return  # options alone
    words = arguments[arguments.index(images[0]) + 1 :]
    if "--entrypoint" in arguments or images[0] == "vaesweep-serve":
        module, given = (words[1], words[2:]) if words[:1] == ["-m"] else ("serving.app", words)
        package = importlib.util.find_spec(module)
        assert package is not None
        name = f"{module}.__main__" if package.submodule_search_locations else module
        patch.setattr(sys, "argv", [module, *given])
        with _only_parsed(patch):
            importlib.import_module(name).main()
    elif "--help" not in words:
        composes([w for w in words if w != "-m"], multirun="-m" in words)


def _wandb(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """It needs W&B's server; a sweep's file is read as our own sweeper reads it."""
    from sweeps.wandb import file as wandb_file

    assert arguments[0] in ("sweep", "agent", "login", "sync", "offline", "online"), arguments
    if arguments[0] == "sweep" and len(arguments) > 1:
        assert wandb_file.read(ROOT / arguments[-1]).space.dimensions


def _dvc(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """DVC's own parser reads it; test_pipeline.py runs the pipeline, and pushes and pulls."""
    from dvc.cli import parse_args  # type: ignore[import-untyped]

    parse_args(arguments)
    if arguments[0] == "repro":
        named = {word for word in arguments[1:] if not word.startswith("-")}
        assert named <= set(pipeline()), f"{named} must be stages of dvc.yaml"


def _pip(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """It needs the network: the extras must be there of packages that are installed here."""
    assert arguments[0] == "install", arguments
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in arguments[1:]:
        if word.startswith("-"):
            continue
        assert not word.startswith(ours["name"]), f"{ours['name']} is in no index: pip install '.'"
        requirement = Requirement(word.replace(".[", f"{ours['name']}["))
        extras: Mapping[str, Any] | Sequence[str] = ours["optional-dependencies"]
        if requirement.name != ours["name"] and requirement.extras:
            metadata = importlib.metadata.metadata(requirement.name)
            extras = metadata.get_all("Provides-Extra") or []
        assert requirement.extras <= set(extras), f"{word} has extras of {sorted(extras)}"


def _ranks(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """They need several GPUs or a cluster; test_ranks.py starts such processes on the CPU."""
    composes(arguments[arguments.index("run.py") + 1 :], multirun=False)


def _sbatch(
    arguments: list[str], simple: Simple, place: Callable[[], Place], patch: pytest.MonkeyPatch
) -> None:
    """It needs a cluster; the script is run by test_deploy.py, its overrides are composed."""
    scripts = [n for n, word in enumerate(arguments) if word.endswith(".sbatch")]
    for number in scripts:
        assert (ROOT / arguments[number]).is_file()
        words = arguments[number + 1 :]
        if words:
            composes(words, multirun=True)
