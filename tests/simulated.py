"""Trials that only pretend to train: for the sweeper's own tests and benchmarks."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import Interrupted, Paused, Pruned
from sweeps.study.execution import Report
from sweeps.workers.task import WorkerSettings


@dataclass(frozen=True)
class SimulatedTask:
    """Gives values computed from the overrides.

    Args:
        log: a file to which every run appends a line "number begin|resume|end overrides".
        epochs: of a trial.
        seconds: an epoch takes.
        fail: overrides, as "key=value", that make a trial fail.
        kill: overrides that make a worker die by SIGKILL in the trial's second epoch, once.
        kill_always: not only once.
        objectives: how many.
        checkpoints: whether a trial can go on where it was.
        noise: standard deviation of what the seed adds to a configuration's value.
    """

    log: str
    epochs: int = 3
    seconds: float = 0.0
    fail: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    kill_always: bool = False
    objectives: int = 1
    checkpoints: bool = True
    noise: float = 0.0

    def prepare(
        self, overrides: Sequence[str], number: int, settings: WorkerSettings
    ) -> SimulatedJob:
        return SimulatedJob(self, list(overrides), number, settings.pauses)


class SimulatedJob:
    """One trial; its value is best for lr=1e-3, and for larger latent sizes."""

    def __init__(
        self, task: SimulatedTask, overrides: list[str], number: int, pauses: bool = False
    ) -> None:
        self._pauses = pauses
        self._task, self._overrides, self._number = task, overrides, number
        values = dict(text.lstrip("+").split("=", 1) for text in overrides)
        self._values = values
        self._drawn_by = repr(sorted(values.items()))
        trained = [item for item in sorted(values.items()) if not item[0].startswith("sweep.")]
        self.identity = repr(trained)
        self.directory = f"{Path(task.log).parent}/{values.get('name', 'vae')}-{number}"
        self.epochs = task.epochs
        self.seed = int(values.get("seed", 0))
        self._value = 0.0

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        from math import log10

        checkpoint = Path(f"{self.directory}.epoch")
        first = int(checkpoint.read_text()) if checkpoint.exists() else 0
        self._note("resume" if first else "begin")
        if set(self._task.fail) & set(self._overrides):
            raise RuntimeError("asked to fail")
        quality = 20 - abs(log10(float(self._values.get("lr", 1e-3))) + 3)
        quality += float(self._values.get("latent_dim", 0)) / 100
        quality += {"mse": 0.5, "ssim": -0.5}.get(self._values.get("loss", ""), 0.0)
        quality += self.seed / 1000
        quality += self._task.noise * random.Random(self._drawn_by).gauss(0, 1)
        self._value = quality
        values = [quality / (1 + i) for i in range(self._task.objectives)]
        for epoch in range(first + 1, self.epochs + 1):
            deadline = time.monotonic() + self._task.seconds
            while time.monotonic() < deadline:
                time.sleep(min(0.02, self._task.seconds))
            if self._task.checkpoints:
                checkpoint.write_text(str(epoch))
            deadly = first == 0 or self._task.kill_always
            if epoch > 1 and deadly and set(self._task.kill) & set(self._overrides):
                os.kill(os.getpid(), signal.SIGKILL)
            shown = [value * epoch / self.epochs for value in values]
            if report(epoch, shown) and epoch < self.epochs:
                raise (Paused if self._pauses else Pruned)(f"at epoch {epoch}")
            if should_stop() and epoch < self.epochs:
                raise Interrupted("asked to stop")
        self._note("end")
        return tuple(values)

    def pictures(self) -> list[str]:
        return []

    def summary(self) -> dict[str, Any]:
        return {"metrics": {"val": {"psnr": self._value}}}

    def _note(self, what: str) -> None:
        line = f"{self._number} {what} {' '.join(self._overrides)}\n"
        file = os.open(self._task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)
