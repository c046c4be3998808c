"""A trial that continues on other code than it began with says so, and its record keeps both."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.machine import plugins
from experiments.machine.code import changes, code_revision, source_hash
from experiments.record import read_result
from tests.conftest import Compose
from tests.test_resume import interrupt, session
from tests.words import trusting

CUBE = """
def cube(x_hat, x):
    return (x_hat - x).abs().pow({power}).flatten(1).mean(1)
"""


def written(folder: Path, power: int) -> None:
    """The module, as a process that starts now would find it."""
    (folder / "my_loss_of_code.py").write_text(CUBE.format(power=power))
    sys.modules.pop("my_loss_of_code", None)
    source_hash.cache_clear()


@pytest.mark.slow
@pytest.mark.trains
def test_another_loss_is_told_and_recorded(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    trusting(monkeypatch, "my_loss_of_code")
    config = tiny("loss=custom", "loss.target=my_loss_of_code.cube", "max_epochs=3")
    written(tmp_path, power=3)
    interrupt(config, tmp_path / "record", 1)
    before = read_result(tmp_path / "record")["code"]["sources"]["my_loss_of_code"]
    interrupt(config, tmp_path / "record", 1)
    assert "other code" not in caplog.text
    written(tmp_path, power=1)
    session(config, tmp_path / "record")
    result = read_result(tmp_path / "record")
    now = result["code"]["sources"]["my_loss_of_code"]
    assert now != before
    assert [one["changed"] for one in result["resumed"]] == [
        {},
        {"source of my_loss_of_code": [before, now]},
    ]
    (told,) = [r.getMessage() for r in caplog.records if "other code" in r.getMessage()]
    assert f"source of my_loss_of_code was {before}, is {now}" in told


def test_what_changed_is_named() -> None:
    old = {"python": "3.12", "packages": {"torch": "2.6", "numpy": "2.2"}, "code": {}}
    new = old | {"packages": {"torch": "2.7", "pillow": "12"}, "code": {"sources": {"losses": "a"}}}
    assert changes(old, new) == {"torch": ["2.6", "2.7"]}
    assert changes(new, new) == {}


def test_code_from_outside_counts_with_its_modules_and_not_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_code_of_hashes"
    for folder in (package, package / "inner", package / "data"):
        folder.mkdir()
    for name in ("__init__.py", "one.py", "inner/__init__.py", "data/photo.txt"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "my_code_of_hashes.one, nonsuch")

    def hashed() -> str:
        source_hash.cache_clear()
        found: str = code_revision()["sources"]["my_code_of_hashes"]
        return found

    first = hashed()
    (package / "data/photo.txt").write_text("more")
    assert hashed() == first
    (package / "inner/two.py").write_text("")
    assert hashed() != first
    assert {"experiments", "losses", "models"} <= code_revision()["sources"].keys()
    assert "nonsuch" not in code_revision()["sources"]
