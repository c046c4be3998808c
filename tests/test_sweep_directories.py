"""Directories of sweeps and trials: each is one's own, and a record says whose it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

import sweeps
from analysis.load import load
from experiments.errors import UserError
from experiments.record import RESULT, read_result
from experiments.record.membership import Membership, records_below
from serving.model.references import find_checkpoint
from sweeps.command import Sweep
from sweeps.workers.directories import checked, give_back, place
from tests import records
from tests.simulated import SimulatedTask

RunSweep = Callable[..., Sweep]
SPACE = "lr=1e-3,2e-3"
ANOTHER = "must belong to one study"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSweep:
    """Run a sweep of simulated trials, in a directory of its own unless it is told another."""

    def run_sweep(*overrides: str, folder: str = "here") -> Sweep:
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        task = SimulatedTask(log=str(tmp_path / "log"))
        return sweeps.run([*overrides, SPACE, "hydra.sweeper.n_jobs=0"], task=task)

    return run_sweep


def begun(tmp_path: Path) -> int:
    return (tmp_path / "log").read_text().count(" begin ")


@pytest.mark.slow
def test_a_second_study_in_a_sweeps_directory_is_refused_before_it_begins(
    run: RunSweep, tmp_path: Path
) -> None:
    first = run("hydra.sweep.dir=one")
    for others in (
        ["hydra.sweeper.study_name=second"],
        ["name=another"],
        ["hydra.sweeper.storage=sqlite:///elsewhere.db"],
    ):
        with pytest.raises(UserError, match=ANOTHER) as refused:
            run("hydra.sweep.dir=one", *others)
        assert "study.db" in str(refused.value), "it says where the first study is"
    assert begun(tmp_path) == len(first.study.trials) == 2
    assert optuna.get_all_study_names(first.study._storage) == ["vae"]
    assert not (tmp_path / "here/elsewhere.db").exists()


@pytest.mark.slow
def test_a_directory_whose_study_is_gone_is_no_other_studys(run: RunSweep, tmp_path: Path) -> None:
    directory = run().directory
    for file in directory.glob("study.db*"):
        file.unlink()
    with pytest.raises(UserError, match="move that directory away"):
        run()
    assert not (directory / "study.db").exists()
    directory.rename(directory.with_name("before"))
    assert len(run().study.trials) == 2


@pytest.mark.slow
def test_machines_that_share_a_storage_only_have_a_directory_each(
    run: RunSweep, tmp_path: Path
) -> None:
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path}/shared.db"
    run(storage, folder="one")
    run(storage, folder="two")
    marks = [
        json.loads((tmp_path / folder / "outputs/vae/sweep/study.json").read_text())
        for folder in ("one", "two")
    ]
    assert marks[0] == marks[1]
    assert begun(tmp_path) == 2


@pytest.mark.slow
def test_a_directory_that_was_moved_copied_or_removed_goes_on(
    run: RunSweep, tmp_path: Path
) -> None:
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path}/shared.db"
    run("name=a")
    run("name=b", storage)
    shutil.copytree(tmp_path / "here", tmp_path / "copied")
    (tmp_path / "here").rename(tmp_path / "moved")
    for folder in ("copied", "moved"):
        run("name=a", folder=folder)
    shutil.rmtree(tmp_path / "moved")
    run("name=b", storage, folder="moved")
    assert begun(tmp_path) == 4, "nothing is trained again"


@pytest.mark.slow
def test_a_directory_without_a_mark_is_taken_if_its_records_are_the_studys(
    run: RunSweep, tmp_path: Path
) -> None:
    directory = run().directory
    mark = directory / "study.json"
    before = mark.read_text()
    mark.unlink()
    run()
    assert mark.read_text() == before

    mark.unlink()
    foreign = records.result() | {"study": {"id": "another's", "name": "vae", "trial": 0}}
    records.write(directory / "deep/0", foreign)
    with pytest.raises(UserError, match=ANOTHER):
        run()
    (directory / "deep/0" / RESULT).write_text(json.dumps(records.result()))
    (directory / "deep/0/config.json").write_text(json.dumps({"lr": 7.0}))
    with pytest.raises(UserError, match=ANOTHER):  # of an older version, that names no study
        run()


@pytest.mark.slow
def test_a_sweep_that_is_refused_removes_only_what_it_made(run: RunSweep, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run("name=new", "hydra.sweeper.storage=sqlite:///missing/folder/study.db")
    assert not (tmp_path / "here/outputs/new").exists()
    records.write(tmp_path / "here/single", records.result())
    with pytest.raises(UserError, match="single run"):
        run("hydra.sweep.dir=single")
    assert (tmp_path / "here/single" / RESULT).exists()


TRIAL = Membership("id", "vae", 3)


def finished(directory: Path, trial: Membership | None, status: str = "completed") -> None:
    """A record that a trial has left; its config is that of no other."""
    content = records.result(status=status)
    records.write(directory, content | ({"study": trial.plain()} if trial is not None else {}))
    (directory / "config.json").write_text(json.dumps({"lr": 7.0}))


def test_a_trial_finds_its_own_directory_again(tmp_path: Path) -> None:
    assert place(tmp_path, "a/b", TRIAL, "config") == tmp_path / "a/b"
    assert place(tmp_path, "a/b", TRIAL, "config") == tmp_path / "a/b"


def test_trials_that_would_share_a_directory_get_their_numbers(tmp_path: Path) -> None:
    def placed(number: int) -> str:
        return place(tmp_path, "lr", Membership("id", "vae", number), "config").name

    assert [placed(n) for n in (0, 1, 2, 1, 0)] == ["lr", "lr_1", "lr_2", "lr_1", "lr"]
    shutil.rmtree(tmp_path / "lr")
    assert placed(1) == "lr_1", "where its checkpoint is, though its name is free now"


def test_trials_that_ask_at_the_same_time_get_different_directories(tmp_path: Path) -> None:
    def placed(number: int) -> Path:
        return place(tmp_path, "same", Membership("id", "vae", number), "config")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(placed, range(40)))
    assert len(set(found)) == 40
    assert all(placed(number) == path for number, path in enumerate(found))


@pytest.mark.parametrize(
    "others",
    [Membership("other", "vae", 3), Membership("id", "vae", 4), TRIAL, None],
    ids=["another study's", "another trial's", "a copied study's", "an older version's"],
)
def test_a_finished_record_is_never_written_again(tmp_path: Path, others: Membership) -> None:
    finished(tmp_path / "3", others)
    before = (tmp_path / "3" / RESULT).read_bytes()
    assert place(tmp_path, "3", TRIAL, "config") == tmp_path / "3_3"
    assert (tmp_path / "3" / RESULT).read_bytes() == before
    assert not (tmp_path / "3/.trial.json").exists()


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_trial_goes_on_in_its_unfinished_record_though_its_images_changed(
    tmp_path: Path, status: str
) -> None:
    finished(tmp_path / "3", TRIAL, status)
    assert place(tmp_path, "3", TRIAL, "config") == tmp_path / "3"


def test_a_directory_that_gets_no_record_is_given_back(tmp_path: Path) -> None:
    path = place(tmp_path, "3", TRIAL, "config")
    give_back(path)
    assert not path.exists()
    finished(path, TRIAL)
    give_back(path)
    assert (path / RESULT).exists()


@pytest.mark.parametrize("subdir", ["/abs", "../x", "a/../../x", ".", "", ".hidden", "workers/0"])
def test_a_subdirectory_elsewhere_than_in_the_sweep_is_refused(subdir: str) -> None:
    with pytest.raises(UserError, match=r"hydra.sweep.subdir.*but got"):
        checked(subdir)


@pytest.mark.parametrize("name", ["x" * 300, "ü" * 300, "a=" + "😀" * 100])
def test_a_name_too_long_for_a_file_system_is_shortened(tmp_path: Path, name: str) -> None:
    first, second = checked(name), checked(name + "1")
    assert first != second
    (tmp_path / first / second).mkdir(parents=True)


@pytest.fixture
def copied(tiny_sweep: Path, tmp_path: Path) -> Path:
    """The tiny sweep, moved to another folder."""
    return Path(shutil.copytree(tiny_sweep, tmp_path / "sweep"))


def relocate(sweep: Path, to: Path) -> None:
    """Let the study of a sweep believe that its records lie elsewhere."""
    with closing(sqlite3.connect(sweep / "study.db")) as database, database:
        found = database.execute(
            "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes "
            "WHERE key = 'directory'"
        ).fetchall()
        for row, value in found:
            path = json.dumps(str(to / Path(json.loads(value)).name))
            database.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                (path, row),
            )


def pretend(directory: Path, **study: Any) -> None:
    """Let a record say that it is another trial's."""
    result = read_result(directory)
    result["study"] |= study
    (directory / RESULT).write_text(json.dumps(result))


def test_a_record_of_a_sweep_says_whose_it_is(tiny_sweep: Path) -> None:
    mark = json.loads((tiny_sweep / "study.json").read_text())
    for record in records_below(tiny_sweep):
        own = {"id": mark["id"], "name": "tiny", "trial": int(record.name)}
        assert read_result(record)["study"] == own


def test_a_record_of_another_study_is_neither_scored_nor_served(copied: Path) -> None:
    best = find_checkpoint(str(copied)).parents[1]
    assert best.is_relative_to(copied)
    pretend(best, id="another")

    runs = load(copied)
    assert [broken.where for broken in runs.broken] == [str(best)]
    number = int(best.name)
    (row,) = [row for _, row in runs.trials.iterrows() if row["trial"] == f"tiny/{number}"]
    assert row["directory"] != str(best)
    assert find_checkpoint(str(copied)).parents[1] != best


def test_a_study_does_not_take_another_trials_weights_for_its_own(
    tiny_sweep: Path, tmp_path: Path
) -> None:
    outer = Path(shutil.copytree(tiny_sweep, tmp_path / "sweep"))
    storage = f"sqlite:///{outer}/study.db"
    relocate(outer, outer)
    reference = f"{storage}#tiny"
    best = find_checkpoint(reference).parents[1]
    assert best.parent == outer
    assert not load(reference).broken

    pretend(best, trial=77)
    runs = load(reference)
    assert [Path(broken.where) for broken in runs.broken] == [best]
    assert str(best) not in set(runs.trials["directory"])
    assert len(runs.trials) == len(load(tiny_sweep).trials), "what the study itself knows stays"
    with pytest.raises(UserError, match="its own record"):
        find_checkpoint(reference)


def test_a_sweep_that_was_moved_is_served_by_its_study(copied: Path, tiny_sweep: Path) -> None:
    relocate(copied, Path("/gone"))
    found = find_checkpoint(f"sqlite:///{copied}/study.db#tiny")
    assert found.is_relative_to(copied)
    assert found.parent.parent.name == find_checkpoint(str(tiny_sweep)).parent.parent.name
