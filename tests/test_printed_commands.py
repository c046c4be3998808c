"""The commands that the program prints can be pasted into a shell, in any folder."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from experiments.cli import commands
from tests.conftest import ROOT, TINY
from tests.hydra_multirun import multirun_config
from tests.places import draw_photos
from tests.servers import free_port
from tests.shown import PACKAGES
from tests.waiting import wait_until

FOLDER = "Übung 1 & 'zwei' $HOME"
SEARCH = ["data=images", "'data.root=\"meine Fotos\"'", "'name=\"erste Wahl\"'", "loss=mse,l1"]
SMALL = [x for x in TINY if not x.startswith(("data.count", "logger", "max_epochs"))]
SMALL += ["max_epochs=1"]

PRINTS = {
    "analysis/commands.py": "the page's commands, below; tests/test_commands.py",
    "analysis/rate_distortion.py": "tests/test_rate_distortion.py",
    "analysis/report/commands.py": "the page's commands, below",
    "analysis/report/markdown.py": "how to install an extra, below",
    "analysis/sources/wandb_runs.py": "`wandb login`, which asks for a key",
    "experiments/metrics/onnx_extractor.py": "how to install an extra, below",
    "experiments/config/permitted.py": "VARIABLE=... before it: tests/test_security_configs.py",
    "experiments/record/checkpoint.py": "experiments.rerun of the record, as on the page, below",
    "experiments/record/single.py": "to continue: tests/test_command.py, tests/test_ranks.py",
    "experiments/sync.py": "what `wandb sync` said, which it runs itself",
    "experiments/tracking/tensorboard_logger.py": "how to install an extra, below",
    "experiments/tracking/wandb/run.py": "`wandb sync` of a run, below; pip install wandb",
    "experiments/tracking/wandb/mode.py": "`wandb login`, which asks for a key",
    "experiments/cli/refusals.py": "how to install an extra, below",
    "run.py": "the search of a file, which stands in conf/sweep/wandb.yaml",
    "serving/app.py": "how to install an extra, below",
    "serving/model/artifacts.py": "pip install wandb",
    "serving/model/portable.py": "how to install an extra, below",
    "serving/model/studies.py": "how to install an extra, below",
    "sweeps/storage/databases.py": "how to install an extra, below",
    "sweeps/screen/ending.py": "to go on, to look closer, to write the report: below",
    "sweeps/storage/opening.py": "how to install an extra, to look closer: below",
}
"""Where messages hold commands, and what tests them."""

_COMMAND = re.compile(r"python (?:run\.py|-m )|pip install|wandb (?:sync|login)|optuna-dashboard")


def strings(source: str) -> Iterator[str]:
    """The texts of a module, those between the holes of f-strings as well, but no docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and id(node) not in docstrings:
            yield value


def modules() -> Iterator[tuple[str, str]]:
    """Every module that people run, by its path, with its source."""
    shipped = [name for name in PACKAGES if name != "benchmarks"]
    for path in [ROOT / "run.py", *(p for name in shipped for p in (ROOT / name).rglob("*.py"))]:
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_every_module_that_prints_a_command_is_known_with_what_tests_it() -> None:
    own_name = re.compile(r"python -m [\w.]+")  # of a module, in its help

    def prints(source: str) -> bool:
        if (
            "experiments.cli import commands" in source
            or "experiments.cli.commands import" in source
        ):
            return True
        return any(_COMMAND.search(x) and not own_name.fullmatch(x) for x in strings(source))

    found = {path for path, source in modules() if prints(source)}
    assert found == set(PRINTS), found ^ set(PRINTS)


@pytest.mark.parametrize("where", [ROOT, "elsewhere"], ids=["in the clone", "elsewhere"])
def test_a_command_names_the_project_from_where_it_is_read(
    where: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_LISTED", ())
    monkeypatch.chdir(where if isinstance(where, Path) else tmp_path)
    for said in (commands.train("--cfg", "job"), commands.module("experiments.preflight", "-h")):
        done = subprocess.run(
            said, shell=True, env=_environment(tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{said}: {done.stderr}"


def _environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PYTHONPATH"))}
    bin_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cache = str(folder / "cache")
    return {**kept, "PATH": bin_first, "HOME": str(folder), "VAESWEEP_CACHE": cache}


def test_how_to_install_an_extra_names_the_clone_and_an_extra_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        match
        for _, source in modules()
        for match in re.findall(r"commands\.install\('(\w+)'\)", source)
    }
    assert {"grpc", "serve", "export", "joblib", "notebooks"} <= asked
    assert asked <= extras["optional-dependencies"].keys()
    monkeypatch.chdir(ROOT)
    assert commands.install("grpc") == "pip install --editable '.[grpc]'"
    monkeypatch.chdir(tmp_path)
    *_, source = shlex.split(commands.install("grpc"))
    assert (Path(source.removesuffix("[grpc]")) / "pyproject.toml").is_file()


ARGUMENTS = [
    "run.py", "-m", "data.root='meine Fotos'", 'name="a b"', "lr=tag(log,interval(1e-4,1e-2))",
    "x=$HOME", "y=`id`", "z=\\,", "objective=[psnr,ssim]", "é=ü", "", "a'b", "*",
]  # fmt: skip


@pytest.mark.parametrize("printed", [True, False], ids=["to go on", "made"])
def test_a_shell_reads_what_was_typed(printed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.screen.ending import resume_command

    monkeypatch.setattr(sys, "argv", ARGUMENTS)
    monkeypatch.chdir(ROOT)
    said = resume_command() if printed else commands.train(*ARGUMENTS[1:])
    done = subprocess.run(
        f"set -- {said}; printf '%s\\0' \"$@\"", shell=True, capture_output=True, text=True
    )
    assert done.stdout.split("\0")[:-1] == ["python", *ARGUMENTS]


def test_a_notebook_is_not_told_its_kernels_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython

    from sweeps.screen.ending import resume_command

    assert "sweeps.run" not in resume_command(), "it is loaded, but no shell of its own runs"
    monkeypatch.setattr(IPython, "get_ipython", object)
    monkeypatch.setattr(sys, "argv", ["/x/ipykernel_launcher.py", "-f", "kernel.json"])
    assert resume_command() == "the same sweeps.run(...) again"


_KEY = re.compile(
    r"(?<![\w./])((?:data|loss|model|optimizer|trainer|kl|evaluation|logger|sweep|hydra)"
    r"(?:\.\w+)+)=((?:[\w.-]*\w)?)(?=$|[\s;,)`'])"
)


def overrides_in_messages() -> dict[str, str]:
    """Overrides of dotted keys that messages and remedies name, with the first module that does."""
    found: dict[str, str] = {}
    for path, source in modules():
        for text in strings(source):
            for key, value in _KEY.findall(text):
                found.setdefault(f"{key}={value}", path)
    return found


@pytest.mark.slow
def test_every_override_that_a_message_names_is_one() -> None:
    """A value that only a run knows is left out, and `VALUE` in capitals stands for any."""
    from omegaconf import OmegaConf

    losses = sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml"))
    loader, config = multirun_config()
    composed = [loader.load_sweep_config(config, [f"loss={loss}"]) for loss in losses]
    composed += [multirun_config("hydra/sweeper/pruner=bands")[1]]
    composed += [loader.load_sweep_config(config, ["data=images"])]
    missing = object()
    wrong = []
    for override, path in overrides_in_messages().items():
        key, _, value = override.partition("=")
        has_it = [c for c in composed if OmegaConf.select(c, key, default=missing) is not missing]
        if not has_it:
            wrong.append(f"{path}: {override}")
        elif re.fullmatch(r"[a-z0-9][\w.-]*", value) and not key.startswith("hydra."):
            own = ["data=images"] if has_it[-1] is composed[-1] else [f"loss={has_it[0].loss.name}"]
            loader.load_sweep_config(config, [*own, override])
    assert wrong == []


@dataclass(frozen=True)
class Printed:
    """What a sweep in a folder with an awkward name said, and left."""

    folder: Path
    text: str

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command as it was printed, in the same folder."""
        return subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=_environment(self.folder),
            capture_output=True,
            text=True,
        )

    def on_page(self, purpose: str) -> str:
        """The command for a purpose on the sweep's page."""
        page = (self.folder / "outputs/erste Wahl/sweep/report.html").read_text(encoding="utf-8")
        found = re.findall(r'<div class="command"><code>(.*?)</code>', page, re.DOTALL)
        (command,) = {html.unescape(text) for text in found if purpose in html.unescape(text)}
        return command

    def records(self) -> list[Path]:
        return sorted((self.folder / "outputs").rglob("result.json"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Printed:
    folder = tmp_path_factory.mktemp("printed") / FOLDER
    draw_photos(folder / "meine Fotos")
    run = shlex.quote(str(ROOT / "run.py"))
    settings = " ".join([*SEARCH, *SMALL, "hydra.sweeper.n_jobs=1"])
    made = Printed(folder, "")
    done = made.run(f"python {run} -m {settings}")
    assert done.returncode == 0, done.stderr
    return Printed(folder, done.stdout + done.stderr)


@pytest.mark.slow
def test_to_look_closer_starts_a_dashboard_with_the_study(printed: Printed) -> None:
    (command,) = re.findall(r"to look closer: (.*)", printed.text)
    port = free_port()
    log = printed.folder / "dashboard.log"
    studies = f"http://127.0.0.1:{port}/api/studies"

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(studies, timeout=5) as answer:
            names = [study["study_name"] for study in json.load(answer)["study_summaries"]]
            return names == ["erste Wahl"]
        return False

    with log.open("wb") as out:
        process = subprocess.Popen(
            f"exec {command} --port {port}",
            shell=True,
            cwd=printed.folder,
            env=_environment(printed.folder),
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(answers, process, log.read_text)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("purpose", "holds"),
    [
        ("experiments.rerun", lambda before, after: len(after) == len(before) + 1),
        ("analysis.report", lambda before, after: after == before),
        ("-m data=images", lambda before, after: len(after) >= len(before)),
    ],
)
def test_the_commands_of_the_page_do_what_they_say(
    printed: Printed, purpose: str, holds: Callable[[list[Path], list[Path]], bool]
) -> None:
    before = printed.records()
    texts = [printed.on_page(purpose)] if purpose != "-m data=images" else _seeds_and_again(printed)
    for command in texts:
        done = printed.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    assert holds(before, printed.records())


def _seeds_and_again(printed: Printed) -> list[str]:
    """To continue the sweep, which is done, and to add seeds, of which one is enough here."""
    page = (printed.folder / "outputs/erste Wahl/sweep/report.html").read_text(encoding="utf-8")
    said = {html.unescape(text) for text in re.findall(r"<code>(python [^<]*)</code>", page)}
    again = [text for text in said if "run.py" in text]
    assert again
    return sorted(text.replace("seed=0,1,2", "seed=0,1") for text in again if "beta=" not in text)


@pytest.mark.slow
def test_a_sweep_that_goes_on_is_the_same_study(printed: Printed) -> None:
    study = optuna.load_study(
        study_name="erste Wahl",
        storage=f"sqlite:///{printed.folder}/outputs/erste Wahl/sweep/study.db",
    )
    trained = [trial for trial in study.trials if "same_as" not in trial.user_attrs]
    cells = [(trial.params["loss"], trial.user_attrs.get("seed")) for trial in trained]
    assert len(cells) == len(set(cells))


@pytest.mark.slow
def test_later_brings_the_run_to_the_server(printed: Printed) -> None:
    run = shlex.quote(str(ROOT / "run.py"))
    settings = " ".join([text for text in SEARCH if not text.startswith("loss=")] + SMALL)
    done = printed.run(f"python {run} {settings} logger=wandb")
    assert done.returncode == 0, done.stderr
    (command,) = re.findall(r"later: (wandb sync .*)", done.stderr)
    *_, path = shlex.split(command)
    assert list((printed.folder / path).glob("*.wandb"))
    parsed = printed.run(f'set -- {command}; test -d "$3" -a $# -eq 3')
    assert parsed.returncode == 0, command
