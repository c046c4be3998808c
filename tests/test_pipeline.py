"""The pipeline of dvc.yaml, as people use it: run, run again, push, lose everything, pull."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
COPIED = [
    "analysis", "conf", "decisions", "experiments", "losses", "models", "sweeps", "run.py",
    "params.yaml",
]  # fmt: skip
COPIED += ["dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"]
PHOTOS = "Ann's photos"
OUTS = ["data/images.zip", "outputs/pipeline"]
SETTINGS = " ".join(x for x in TINY if not x.startswith(("data.", "max_epochs"))) + " max_epochs=1"


pytestmark = pytest.mark.slow


def copy(folder: Path) -> None:
    """The project as a fresh clone has it, for a pipeline of seconds."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.ipynb")
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=unwanted)
        else:
            shutil.copyfile(source, target)
    shutil.rmtree(folder / "analysis" / "study", ignore_errors=True)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"].update(size=32, photos=PHOTOS)
    params["train"]["overrides"] = SETTINGS
    params["sweep"]["overrides"] = f"{SETTINGS} loss=mse,l1 hydra.sweeper.n_jobs=1"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def draw_photos(folder: Path, count: int = 120) -> None:
    from experiments.data.cats import draw_cats

    folder.mkdir()
    images = np.concatenate([images for images, _ in draw_cats(count, seed=0, size=40)])
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number}.jpg")


class Clone:
    """A clone of the project, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder.parent),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def hashes(self) -> dict[str, str]:
        """Of every file that the pipeline versions."""
        files = [self.folder / OUTS[0], *(self.folder / OUTS[1]).rglob("*")]
        unversioned = ("scores-", "study.db-")
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.is_file() and not path.name.startswith(unversioned)
        }


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with photos, whose pipeline has been run once, and a store."""
    parent = tmp_path_factory.mktemp("pipeline")
    copy(parent / "clone")
    draw_photos(parent / "clone" / PHOTOS)
    made = Clone(parent / "clone")
    made.run("git", "init", "--quiet")
    made.run("dvc", "remote", "add", "--local", "--default", "store", str(parent / "store"))
    made.run("dvc", "repro")
    return made


def test_what_was_done_is_not_done_again(clone: Clone) -> None:
    before = clone.hashes()
    assert {"data/images.zip", "outputs/pipeline/report.html"} <= before.keys()
    assert "outputs/pipeline/train/checkpoints/best.ckpt" in before
    assert "outputs/pipeline/sweep/1/result.json" in before
    said = clone.run("dvc", "repro")
    assert "Running stage" not in said
    assert [line for line in said.splitlines() if "skipping" in line] == [
        f"Stage '{stage}' didn't change, skipping"
        for stage in ("prepare", "train", "sweep", "report")
    ]
    assert clone.hashes() == before


def test_what_was_pushed_comes_back_to_the_byte(clone: Clone) -> None:
    before = clone.hashes()
    clone.run("dvc", "push")
    for lost in (*OUTS, ".dvc/cache"):
        path = clone.folder / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "deleted" in clone.run("dvc", "status")
    clone.run("dvc", "pull")
    assert clone.hashes() == before
    assert "up to date" in clone.run("dvc", "status")


def test_git_is_asked_to_keep_the_lock_but_no_data(clone: Clone) -> None:
    clone.run("git", "add", "--all", f":!{PHOTOS}")
    kept = clone.run("git", "ls-files").splitlines()
    assert {"dvc.lock", "dvc.yaml", ".dvc/config"} <= set(kept)
    assert [path for path in kept if path.startswith(("data/images", "outputs/", ".dvc/c"))] == [
        ".dvc/config"
    ]


def test_a_changed_photo_runs_all_again_and_a_changed_setting_what_depends_on_it(
    clone: Clone,
) -> None:
    def stale() -> set[str]:
        return {line[:-1] for line in clone.run("dvc", "status").splitlines() if line[:1].isalpha()}

    photo = clone.folder / PHOTOS / "0.jpg"
    original = photo.read_bytes()
    Image.new("RGB", (40, 40), "red").save(photo)
    assert "prepare" in stale()
    photo.write_bytes(original)
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("loss=mse,l1", "loss=mse,ssim"))
    assert stale() == {"sweep"}
    planned = clone.run("dvc", "repro", "--dry")
    assert [line for line in planned.splitlines() if line.startswith("Running stage")] == [
        "Running stage 'sweep':"
    ]
    params.write_text(params.read_text().replace("loss=mse,ssim", "loss=mse,l1"))
