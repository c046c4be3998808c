"""Every command that the project shows to people does what it says: taken from where it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from experiments.metrics import METRICS
from tests import rules
from tests.conftest import Compose
from tests.little import budget, composes, in_shell
from tests.places import Place, draw_photos
from tests.shown import (
    ROOT,
    Shown,
    everywhere,
    in_comments,
    in_deployments,
    in_docstrings,
    in_help,
    in_markdown,
    pages,
    python_blocks,
    simple_commands,
)

EVERYWHERE = everywhere()
SLOW = [pytest.mark.slow, pytest.mark.trains]


@pytest.fixture(scope="session")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("drawn") / "photos")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes a working directory, once it is wanted: it may need a sweep."""

    def made() -> Place:
        photos = request.getfixturevalue("drawn_photos")
        return Place(tmp_path, photos, request.getfixturevalue("tiny_sweep"))

    return made


def first_screen() -> list[str]:
    """The training commands above the README's first heading of a section."""
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    found = [re.sub(r"\s#\s.*$", "", " ".join(text.split())) for text in in_markdown(page)]
    return [t for t in dict.fromkeys(found) if t.startswith("python run.py") and "--" not in t]


def shown_commands() -> list[Any]:
    def is_slow(shown: Shown) -> bool:
        return any(map(rules.trains, simple_commands(shown.text)))

    return [
        pytest.param(shown, marks=SLOW if is_slow(shown) else [], id=str(shown))
        for shown in EVERYWHERE
        if shown.text not in first_screen()  # which is run as it is typed
    ]


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("shown", shown_commands())
def test_a_command_that_is_shown_is_right(
    shown: Shown,
    place: Callable[[], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for simple in simple_commands(shown.text):
        rules.check(simple, place, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("frobnicate --all", "no test knows 'frobnicate'"),
        ("python run.py --confg job", "AssertionError"),
        ("python -m experiments.resync outputs", "does not exist"),
        ("python -m experiments.sync --everything", "unrecognized|SystemExit"),
        ("python tools/x.py", "no test knows"),
        ("python -m benchmarks.absent", "does not exist"),
        ("python benchmarks/all.py", "no test knows"),
        ("python -m serving.app --checkpont RUN", "unrecognized|SystemExit"),
        ("make trian", "No rule to make target"),
        ("docker build --target trian .", "AssertionError"),
        ("docker compose up study2", "must be services"),
        ("docker compose run --rm sweep sweep=ful", "Could not find 'sweep/ful'"),
        ("dvc repro trian", "must be stages"),
        ("pip install 'vaesweep[serve]'", "is in no index"),
        ("pip install '.[server]'", "has extras of"),
        ("sbatch deploy/slurm/sweep.sbatch loss=mse,sim", "`loss` must be one of"),
        ("kubectl apply --filename deploy/kubernetes/swep.yaml", "does not exist"),
        ("wandb sweep sweeps/wandb/absent.yaml", "must be YAML that can be read"),
        ("python run.py -m hydra/launcher=ray lss=mse,l1", "`lss` is not a key of the config"),
    ],
)
def test_a_wrong_command_would_be_found(
    text: str, why: str, place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    (simple,) = simple_commands(text)
    nowhere = Place(Path.cwd(), ROOT, ROOT)
    with pytest.raises((Exception, SystemExit)) as caught:
        rules.check(simple, lambda: nowhere, monkeypatch)
    assert re.search(why, f"{caught.type.__name__} {caught.value}"), caught.value


def test_commands_are_found_wherever_they_stand() -> None:
    page = "x `make run` and `loss=mse`, `python run.py -m\nloss=a,b`\n"
    page += "```bash\n# no command\na b   # what for\nc \\\n  d\n```\n```python\ne f\n```\n"
    assert sorted(" ".join(found.split()) for found in in_markdown(page)) == [
        "a b # what for", "c d", "make run", "python run.py -m loss=a,b",
    ]  # fmt: skip
    comment = (
        "# Prose about make run.\n#   wandb agent ID    often\n#   python run.py \\\n#     a=1\n"
    )
    assert list(in_comments(comment)) == ["wandb agent ID", "python run.py a=1"]
    said = "One trial   python run.py\n`python run.py --cfg job` prints\nsee README"
    assert list(in_help(said)) == ["python run.py", "python run.py --cfg job"]
    code = 'def f():\n    """X: `make run`.\n\n    Y:\n\n        python -m a.b c   # d\n    """\n'
    assert list(in_docstrings(code)) == ["make run", "python -m a.b c"]


def test_a_command_is_taken_apart_as_a_shell_does_it() -> None:
    text = "A=1 b 'c d' <name> < in.yaml | e > out && f  # why"
    assert [(s.environment, s.words, s.files) for s in simple_commands(text)] == [
        (("A=1",), ("b", "c d", "NAME"), ("in.yaml",)),
        ((), ("e",), ("out",)),
        ((), ("f",), ()),
    ]


def test_every_kind_of_place_is_looked_at() -> None:
    places = {shown.place.partition(",")[0] for shown in EVERYWHERE}
    wanted = ["README.md", "docs/deploy.md", "docs/data.md", "benchmarks/README.md", "Makefile"]
    wanted += ["conf/experiments/photos.yaml", "conf/sweep/full.yaml", "deploy/slurm/sweep.sbatch"]
    wanted += ["conf/hydra/help/vaesweep.yaml", "serving/export.py", "dvc.yaml", "compose.yaml"]
    wanted += ["analysis/study/README.md", "analysis/compare_losses.ipynb"]
    known = "\n".join((ROOT / place).read_text(encoding="utf-8") for place in places)
    for name in wanted:  # unless the same command stands in a page as well
        text = (ROOT / name).read_text(encoding="utf-8")
        assert name in places or all(
            line.strip("# ").split("  ")[0] in known
            for line in text.splitlines()
            if "python run.py" in line
        ), name


def test_what_help_prints_is_what_was_looked_at(tmp_path: Path) -> None:
    done = in_shell(["python", "run.py", "--help"], tmp_path)
    assert done.returncode == 0
    texts = {shown.text for shown in EVERYWHERE}
    assert set(in_help(done.stdout)) <= texts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "words"), list(in_deployments()), ids=[where for where, _ in in_deployments()]
)
def test_what_a_container_starts_composes(where: str, words: list[str]) -> None:
    multirun = "-m" in words or where.endswith("sweep.yaml")
    composes([word for word in words if word != "-m"], multirun=multirun)


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("text", first_screen())
def test_the_first_screen_is_run_as_it_is_typed(text: str, place: Callable[[], Place]) -> None:
    made = place()
    (simple,) = simple_commands(text)
    overrides = [word for word in simple.words[2:] if word != "-m"]
    made.provide(overrides)
    searched = ["hydra.sweeper.n_trials=2", "sweep.confirm_seeds=2"] if "-m" in text else []
    words = [*simple.words, *budget(overrides), *searched]
    done = in_shell(words, made.folder)
    assert done.returncode == 0, done.stderr
    assert list((made.folder / "outputs").rglob("result.json"))
    assert "Traceback" not in done.stderr
    if "-m" in text:
        assert list((made.folder / "outputs").rglob("report.html"))


@pytest.mark.slow
def test_make_run_trains(tmp_path: Path) -> None:
    from tests.conftest import TINY

    arguments = " ".join([*TINY, "max_epochs=1", f"hydra.run.dir={tmp_path / 'trial'}"])
    dry = ["make", "-o", ".venv/installed", "run", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        [*dry, f"ARGS=experiments=quick {arguments}"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "trial/result.json").is_file()


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("page", [p for p in pages() if python_blocks(p)], ids=lambda p: p.name)
def test_the_examples_in_python_run(
    page: Path, place: Callable[[], Place], monkeypatch: pytest.MonkeyPatch, compose: Compose
) -> None:
    import sweeps

    run = sweeps.run
    made = place()
    blocks = python_blocks(page)
    made.provide(re.findall(r'"([^"\n]+)"', "\n".join(blocks)))
    monkeypatch.chdir(made.folder)

    def run_little(overrides: list[str]) -> sweeps.command.Sweep:
        small = ["hydra.sweeper.n_jobs=0", "hydra.sweeper.n_trials=2", "report=none"]
        return run([*overrides, *budget(overrides), *small])

    monkeypatch.setattr(sweeps, "run", run_little)
    names: dict[str, Any] = {}
    with patch.dict(METRICS):  # which an example adds to
        for block in blocks:
            exec(compile(block, str(page), "exec"), names)
