"""A working directory in which a command that is shown finds what it names."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]

_PHOTOS = re.compile(r"(?:my[-_ ]?)?photos|PHOTOS|PATH|FOLDER", re.IGNORECASE)
_SWEEP = re.compile(r"outputs/[\w-]+/sweep/?|SWEEP")
_TRIAL = re.compile(r"outputs/[\w-]+/(?:sweep/\d+|[A-Z-]+)/?|RUN|RECORD|TRIAL|DIRECTORY")
_FOLDER = re.compile(r"outputs/[\w-]+/?")
_CHECKPOINT = re.compile(r".+\.ckpt")
_STUDY = re.compile(r"sqlite:///([\w./-]+\.db)#([\w-]+)")
_WRITTEN = {"--out", "--figures", "-o"}


def draw_photos(folder: Path, count: int = 60) -> Path:
    """A folder of photos of drawn cats."""
    import numpy as np
    from PIL import Image

    from experiments.data.cats import draw_cats

    folder.mkdir(parents=True)
    images = np.concatenate([images for images, _ in draw_cats(count, seed=0, size=40)])
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number}.jpg")
    return folder


class Place:
    """The directory.

    Args:
        folder: empty.
        photos: drawn ones.
        sweep: the directory of a sweep that has ended; its trial 0 is completed.
    """

    def __init__(self, folder: Path, photos: Path, sweep: Path) -> None:
        self.folder, self._photos, self._sweep = folder, photos, sweep

    def provide(self, words: Iterable[str]) -> None:
        """Make what words name that a command reads: of themselves or of `KEY=VALUE`."""
        before = ""
        for word in words:
            if before not in _WRITTEN and not word.startswith(
                ("hydra.run.dir=", "hydra.sweep.dir=")
            ):
                self._provide(word.rpartition("=")[2] if "=" in word and "#" not in word else word)
                if word.startswith("loss.target="):
                    self._write_loss(word.partition("=")[2])
            before = word

    def _provide(self, name: str) -> None:
        study = _STUDY.fullmatch(name)
        if study is not None:
            self._copy_study(*study.groups())
            return
        path = self.folder / name
        if not name or name.startswith(("-", "/")) or "://" in name or path.exists():
            return
        if (ROOT / name).is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(ROOT / name)
        elif _PHOTOS.fullmatch(name):
            path.symlink_to(self._photos)
        elif _SWEEP.fullmatch(name):
            shutil.copytree(self._sweep, path)
        elif _TRIAL.fullmatch(name):
            shutil.copytree(self._sweep / "0", path)
        elif _FOLDER.fullmatch(name):
            shutil.copytree(self._sweep, path / "sweep")
        elif _CHECKPOINT.fullmatch(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._sweep / "0/checkpoints/best.ckpt", path)
        elif path.suffix == ".zip":
            self._pack(path)
        elif path.suffix in (".jpg", ".png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            photo = self._photos / f"{len(list(self.folder.glob('*.*'))) % 60}.jpg"
            shutil.copyfile(photo, path)

    def _pack(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for photo in sorted(self._photos.iterdir()):
                archive.write(photo, photo.name)

    def _copy_study(self, file: str, name: str) -> None:
        import optuna

        source = f"sqlite:///{self._sweep / 'study.db'}"
        (known,) = optuna.get_all_study_names(source)
        optuna.copy_study(
            from_study_name=known,
            from_storage=source,
            to_storage=f"sqlite:///{self.folder / file}",
            to_study_name=name,
        )

    def _write_loss(self, target: str) -> None:
        """A distance of the user's own, where `loss.target` says that it is."""
        module, _, function = target.rpartition(".")
        (self.folder / f"{module}.py").write_text(
            f"def {function}(x_hat, x):\n    return (x_hat - x).square().flatten(1).mean(1)\n"
        )
