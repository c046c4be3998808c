"""What the W&B server has of a run, and bringing it the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tracking.wandb import run as wandb_run
from experiments.tracking.wandb.mode import Mode


@dataclass(frozen=True)
class Delivered:
    """What the server has of a run.

    Attributes:
        status: of the trial, as the run's end said it; None if the end never came.
        rows: how many.
        path: entity/project/id.
        url: its address.
    """

    status: str | None
    rows: int
    path: str
    url: str


class Server:
    """W&B's public API, asked once for each project.

    Raises:
        UserError: the server refuses the key.
    """

    def __init__(self) -> None:
        import wandb

        self._api = wandb.Api(timeout=30)
        self.entity = str(self._api.default_entity or "")
        self._projects: dict[tuple[str, str], dict[str, Delivered]] = {}

    def delivered(self, path: str) -> Delivered | None:
        """What the server has of the run with that path: project/id or entity/project/id."""
        if "/" not in path:
            return None  # it never had a run
        *entity, project, run_id = path.split("/")
        key = (entity[0] if entity and entity[0] else self.entity, project)
        if key not in self._projects:
            self._projects[key] = self._list(*key)
        return self._projects[key].get(run_id)

    def steps(self, path: str, metric: str) -> set[int]:
        """The steps of training for which the server has a value of a metric."""
        rows = self._api.run(path).scan_history(keys=[wandb_run.STEP, metric])
        return {int(row[wandb_run.STEP]) for row in rows}

    def forget(self) -> None:
        """Ask again."""
        self._projects = {}
        self._api.flush()

    def _list(self, entity: str, project: str) -> dict[str, Delivered]:
        import wandb

        found = {}
        try:
            for run in self._api.runs(f"{entity}/{project}", per_page=500, lazy=False):
                status = run.summary_metrics.get("status") if run.state != "running" else None
                rows, path = int(run.historyLineCount or 0), "/".join(run.path)
                found[run.id] = Delivered(status, rows, path, run.url)
        except (ValueError, wandb.errors.CommError):
            return {}  # there is no such project yet
        return found


def is_marked(run_directory: Path) -> bool:
    """Whether `wandb sync` says that it brought a run to the server: its exit status does not."""
    return any(run_directory.glob("*.wandb.synced"))


def upload(run_directories: Sequence[Path], seconds: float, entity: str) -> str:
    """Run `wandb sync` on the directories, for a while at most, to an entity of the user's.

    Returns:
        What it said.
    """
    command = [sys.executable, "-m", "wandb", "sync", "--include-online"]
    command += ["--entity", entity] if entity else []
    command += [str(directory) for directory in run_directories]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as logs:
        environment = os.environ | {"WANDB_DIR": logs}
        with subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=environment
        ) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
        said.seek(0)
        return said.read()


def relog(
    run_id: str | None,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Path],
    end: Mapping[str, Any],
) -> dict[str, str]:
    """Log what the server lacks of a trial, from its record.

    Args:
        run_id: of the trial's run; None makes one.
        settings: for `wandb_run.start`.
        rows: of the history that are missing.
        pictures: PNG files by their keys.
        end: for `wandb_run.finish`.

    Returns:
        What `wandb_run.describe` says of the run.
    """
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as directory:
        mode = Mode("online", "its record is brought to the server")
        logger = wandb_run.start(Path(directory), **settings, mode=mode, run_id=run_id)
        step = 0
        for row in rows:
            step = row["step"]
            values = {k: v for k, v in row.items() if k != "step" and v is not None}
            logger.log_metrics(values, wandb_run.logged_step(step))
        for key, path in pictures.items():
            picture = np.asarray(Image.open(path).convert("RGB"))
            wandb_run.log_picture(logger, key, picture, step)
        about = wandb_run.describe(logger)
        wandb_run.finish(logger, **end)
    return about
