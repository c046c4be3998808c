"""Folders have names that addresses must encode: a study lies where its folder is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.record.addresses import sqlite_address, study_reference
from serving.model import studies
from sweeps.results import reading
from sweeps.storage.attributes import STUDY
from sweeps.storage.opening import dashboard_command, lock, normalised, open_storage, redacted

ODD = ["what?now", "feature%2Fx", "50%", "a%00b", "a#b", "a;b&c=d", "two words", "it's", 'a"b']
ODD += ["{name}", "a@b:c", "ünïcode", "[x]", "back\\slash", "file:x", "a+b", "$HOME", "~"]
ODD += ["x?mode=memory&uri=true"]
NAMES = st.sampled_from(ODD) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=20,
).filter(lambda name: name.strip(".") != "")


def made(folder: Path) -> str:
    """The address of a new study `vae` of one trial in a folder, as a sweep makes it."""
    default = folder / "study.db"
    study = optuna.create_study(study_name="vae", storage=open_storage(None, default))
    study.set_user_attr(STUDY, {"schema": 1, "space": {}, "objectives": ["psnr"], "base": {}})
    study.add_trial(optuna.trial.create_trial(value=1.0))
    address = normalised(None, default)
    assert isinstance(address, str)
    return address


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=NAMES)
def test_a_study_lies_in_its_folder_whatever_that_is_called(name: str) -> None:
    with TemporaryDirectory() as outer:
        folder = Path(outer, name, "sweep")
        address = made(folder)

        assert {path.name for path in Path(outer).iterdir()} == {name}
        with lock(address, "vae", folder / "lock"):
            pass
        assert all("study.db" in path.name for path in folder.iterdir())
        # The user may name it by the address that we print, or by the path as it is.
        for reference in (f"{address}#vae", f"sqlite:///{folder}/study.db#vae"):
            url, study = study_reference(reference)
            assert study == "vae"
            [(found, _)] = reading.load_studies(url)
            assert len(found.trials) == 1
            assert len(studies._load(url, study, studies._file(url, "it")).trials) == 1
        assert redacted(address) == address


def journal(folder: Path) -> str:
    return f"journal://{folder}/study.log"


@pytest.mark.parametrize("name", ODD)
def test_a_journal_lies_in_its_folder_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    address = normalised(journal(folder), Path())
    storage = open_storage(address, Path())
    optuna.create_study(study_name="vae", storage=storage)
    with lock(address, "vae", folder / "lock"):
        pass

    assert [path.name for path in tmp_path.iterdir()] == [name]
    url, study = study_reference(f"{address}#vae")
    assert studies._load(url, study, studies._file(url, "it")).trials == []
    assert str(folder) in redacted(address)
    assert name in dashboard_command(address).replace("'\"'\"'", "'")


@pytest.mark.parametrize("address", ["sqlite:///what?now/study.db", "sqlite:///a#b/study.db"])
def test_an_address_that_means_another_file_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="percent-encoded") as refused:
        normalised(address, tmp_path)
    assert address in str(refused.value)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: f"sqlite:///{path}/what%3Fnow.db", "what?now.db"),
        (lambda path: f"sqlite:///{path}/50%25.db?timeout=5", "50%.db"),
        (lambda path: f"sqlite:///file:{path}/plain.db?mode=rwc&uri=true", "plain.db"),
        (lambda path: sqlite_address(path / "a?b#c%.db", mode="rwc"), "a?b#c%.db"),
    ],
)
def test_an_address_that_is_encoded_means_its_file(
    write: Callable[[Path], str], expected: str, tmp_path: Path
) -> None:
    open_storage(normalised(write(tmp_path), Path()), Path())

    files = [path for path in tmp_path.iterdir() if path.suffix == ".db"]
    assert [path.name for path in files] == [expected]
    with sqlite3.connect(files[0]) as database:
        assert database.execute("SELECT count(*) FROM studies").fetchone() == (0,)
    database.close()
