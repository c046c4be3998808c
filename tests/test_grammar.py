"""Overrides that Hydra cannot read, and what we say to type instead."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.cli.grammar import _is_readable, advice, literal
from experiments.errors import UserError
from tests.conftest import ROOT

VALUES = [
    "~/photos",
    "fotos/größe",
    "猫",
    "/tmp/a,b=c",
    "a=b",
    "a(b)",
    "a (1).zip",
    "{a}",
    "[a",
    "a#b",
    "it's",
    'a"b',
    'it\'s "so"',
    "a;b",
    "a&b!",
    "ö\\",
    'ö\\"',
    "x,(y)",
    "a\nb",
    "`x`",
]


def typed(message: str) -> list[str]:
    """The words that a shell makes of what a message says to type."""
    return shlex.split(re.split(r"; type |one text, type ", message)[1].partition(", or for")[0])


def read(override: str) -> Any:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed.value()


@pytest.mark.parametrize("value", VALUES)
def test_what_is_said_to_type_is_read_as_what_was_meant(value: str) -> None:
    message = advice(f"data.root={value}")
    assert repr(f"data.root={value}") in message
    (word,) = typed(message)
    assert word.startswith("data.root=")
    assert read(word) == value
    assert read(f"k={literal(value)}") == value


def test_any_text_can_be_typed_as_it_is_said() -> None:
    draw = random.Random(1)
    for _ in range(150):
        value = "".join(draw.choices("ab/~ö猫,=()[]{}:#'\"\\ $;&|!`\t.-_1", k=6))
        assert read(f"k={literal(value)}") == value
        if _is_readable(f"k={value}"):
            continue
        (word,) = typed(advice(f"k={value}"))
        if value[0] not in "[{" and not re.match(r"\w+\(", value):  # which may be lists
            assert read(word) == value


def test_the_quotes_are_those_that_a_person_would_type() -> None:
    assert advice("data.root=/tmp/a,b=c").endswith(
        "but got 'data.root=/tmp/a,b=c'; type 'data.root=\"/tmp/a,b=c\"', "
        "or for several values 'data.root=/tmp/a,\"b=c\"'"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.terms=[mse,ö]", ['loss.terms=[mse,"ö"]']),
        ("loss.options={a:ö}", ['loss.options={a:"ö"}']),
        ("name=choice(a,ö)", ['name=choice(a,"ö")']),
        ("--lr=3", ["lr=3"]),
        ("data.root=a b,c", ['data.root="a b,c"']),
    ],
)
def test_only_what_must_be_is_changed(override: str, words: list[str]) -> None:
    assert typed(advice(override)) == words


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("photos", "an argument must be KEY=VALUE, such as lr=1e-3, but got 'photos'"),
        ("größe=3", "a key must be letters, digits and _, .* but got 'größe' in 'größe=3'"),
        ("lr=interval(1,2", r"`lr` must be a value or a search space .* read 'interval\(1,2'$"),
    ],
)
def test_what_no_quotes_mend_is_said_without_them(override: str, message: str) -> None:
    assert re.search(message, advice(override))
    assert "type" not in advice(override)


@pytest.mark.parametrize(
    "command",
    [["run.py"], ["run.py", "-m", "loss=mse,l1"], ["-m", "experiments.preflight"]],
)
@pytest.mark.parametrize("value", ["~/a,b=größe"])
def test_every_command_says_it_in_one_message(
    tmp_path: Path, command: list[str], value: str
) -> None:
    program = [str(ROOT / "run.py"), *command[1:]] if command[0] == "run.py" else command
    done = subprocess.run(
        [sys.executable, *program, "data=images", f"data.root={value}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == f"error: {advice(f'data.root={value}')}"
    assert not list(tmp_path.iterdir())


def test_a_script_is_told_what_to_write_in_python() -> None:
    import sweeps

    with pytest.raises(UserError, match=r"type 'data.root=\"fotos/größe\"'"):
        sweeps.run(["data=images", "data.root=fotos/größe"])


def test_several_values_in_a_single_run_are_told_apart_from_one_with_a_comma(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "data=images", "data.root=my photos,2024"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert typed(done.stderr) == ['data.root="my photos,2024"']
    assert "to try each, add -m" in done.stderr


def test_a_path_of_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from experiments.data import load_images

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "fotos/größe").mkdir(parents=True)
    for grey in range(4):
        Image.new("L", (8, 8), 60 * grey).save(tmp_path / f"fotos/größe/{grey}.png")
    root = read('data.root="~/fotos/größe"')
    assert len(load_images(root=root, cache_dir="~/cache", size=8).images) == 4
    assert (tmp_path / "cache").is_dir()
