"""What a worker does with one trial: compose its config as Hydra would, and train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from experiments import config as configs
from experiments.config import guard
from experiments.errors import Interrupted, Paused, Pruned, UserError
from experiments.record.identity import identity
from experiments.record.membership import Membership
from sweeps.study.execution import Job, Report
from sweeps.workers.directories import checked, place
from sweeps.workers.resources import device_of, processes_per_trial, visible_gpus

__all__ = ["Job", "Report", "Task", "TrainingJob", "TrainingTask", "WorkerSettings"]

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig

    from experiments.data import ImageSet

_SUMMARY = (
    "status", "reason", "name", "seed", "parameters", "metrics", "timings", "started", "code",
    "python", "hardware", "data", "network_parameters", "epochs", "steps", "checkpoint", "wandb",
)  # fmt: skip


_PICTURES = ("reconstructions.png", "samples.png")


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker does alike in all its trials.

    Attributes:
        index: of the worker among those that share a machine, from 0.
        threads: of a trial on the CPU; None leaves PyTorch's own choice.
        directory: of the sweep, as the command resolved it; None for the config's.
        study: id and name of the study; None where trials are prepared only to be looked at.
        gpus_per_trial: of the config's `sweep`.
        pauses: trials that are pruned may go on later.
    """

    index: int
    threads: int | None
    directory: Path | None = None
    study: tuple[str, str] | None = None
    gpus_per_trial: int = 1
    pauses: bool = False


class Task(Protocol):
    """Makes the jobs of a sweep. Travels to the workers, so it must be picklable."""

    def prepare(self, overrides: Sequence[str], number: int, settings: WorkerSettings) -> Job:
        """The job of the trial of that number.

        Args:
            overrides: of Hydra.
            number: of the trial; a trial that is continued keeps its first one.
            settings: of the worker.
        """


@dataclass
class TrainingTask:
    """Trains a VAE in the way of `python run.py`, with Hydra's directories and logging.

    Args:
        loader: Hydra's, of the command line.
        config: Hydra's composed config of the sweep.
        whitelist: what configs may instantiate.
    """

    loader: ConfigLoader
    config: DictConfig
    whitelist: Any
    _images: dict[str, ImageSet] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": {}}  # each worker maps them for itself

    def prepare(
        self, overrides: Sequence[str], number: int, settings: WorkerSettings
    ) -> TrainingJob:
        from sweeps.space.jobs import of_job, without_hydra

        composed = of_job(self.loader.load_sweep_config(self.config, list(overrides)), number)
        values = configs.plain(without_hydra(composed))
        trainer = values["trainer"]
        each = processes_per_trial(settings.gpus_per_trial, trainer["devices"])
        trainer["devices"] = each
        if trainer["threads"] is None and settings.threads is not None:
            trainer["threads"] = max(1, settings.threads // each)
        if trainer["device"] == "auto" and visible_gpus():
            import torch

            trainer["device"] = device_of(settings.index, torch.cuda.device_count(), each) or "auto"
        guard.check_directories(composed)
        images = self._load(values)
        job = TrainingJob(self, composed, values, images)
        job.settle(number, settings)
        return job

    def check_batches(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Refuse batches larger than the split of the images that were loaded.

        Raises:
            UserError: one of the plain configs wants such.
        """
        from experiments.building import splits_of
        from experiments.data.splits import check_batch_size

        loaded = [values for values in wanted if _data(values) in self._images]
        for values in sorted(loaded, key=lambda values: -values["batch_size"])[:1]:
            train = splits_of(values, self._images[_data(values)]).train
            check_batch_size(values["batch_size"], len(train))

    def _load(self, values: Mapping[str, Any]) -> ImageSet:
        """The images, which stay in memory from trial to trial; such that can be split."""
        from experiments.building import load, splits_of

        key = _data(values)
        if key not in self._images:
            images = load(values)
            splits_of(values, images)
            self._images = {key: images}
        return self._images[key]


def _data(values: Mapping[str, Any]) -> str:
    return repr(sorted(values["data"].items()))


class TrainingJob:
    """One trial of `TrainingTask`."""

    def __init__(
        self,
        task: TrainingTask,
        composed: DictConfig,
        values: dict[str, Any],
        images: ImageSet,
    ) -> None:
        self._task, self._composed, self._values = task, composed, values
        self._images = images
        self._membership: Membership | None = None
        self._pauses = False
        self.epochs: int = values["max_epochs"]
        self.seed: int = values["seed"]
        self.identity = identity(values, images.fingerprint)

    def settle(self, number: int, settings: WorkerSettings) -> None:
        """Find the trial's directory and, where it belongs to a study, keep it for the trial.

        Raises:
            UserError: `hydra.sweep.subdir` names none within the sweep's.
        """
        from sweeps.space.jobs import set_directory

        sweep = self._composed.hydra.sweep
        directory = (settings.directory or Path(str(sweep.dir))).absolute()
        subdir = checked(str(sweep.subdir))
        path = directory / subdir
        self._pauses = settings.pauses
        if settings.study is not None:
            self._membership = Membership(*settings.study, number)
            path = place(directory, subdir, self._membership, self.identity)
        set_directory(self._composed, directory, str(path.relative_to(directory)))
        self.directory = str(path)

    def run(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.utils import run_job, setup_globals
        from hydra.types import HydraContext

        from experiments.record.logs import only_by_owner, warnings_logged
        from sweeps.workers.logs import restored

        def train(_: DictConfig) -> tuple[float, ...] | Pruned | Interrupted:
            try:
                with only_by_owner(), warnings_logged():
                    return self._train(report, should_stop)
            except (Pruned, Interrupted) as ended:
                return ended  # which is no failure, as Hydra would report it

        setup_globals()
        with restored(self._composed):
            returned = run_job(
                task_function=train,
                config=self._composed,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=HydraContext(
                    config_loader=self._task.loader,
                    callbacks=Callbacks(self._composed),
                    execution_whitelist=self._task.whitelist,
                ),
            )
        outcome: tuple[float, ...] | Pruned | Interrupted = returned.return_value
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _train(self, report: Report, should_stop: Callable[[], bool]) -> tuple[float, ...]:
        from experiments.machine.loading import loading
        from experiments.trial import run_trial

        with loading():
            from experiments.resume import finished
            from sweeps.workers.training import Reporter

        done = finished(Path(self.directory), self._values, self._images.fingerprint)
        if done is not None:
            return _outcome(done, Path(self.directory))

        names = configs.objectives(self._values)
        reporter = Reporter(names, report, should_stop, pauses=self._pauses)
        result = run_trial(
            self._values,
            self.directory,
            in_sweep=True,
            callbacks=[reporter],
            resumable=True,
            should_stop=reporter.should_stop,
            images=self._images,
            study=self._membership.plain() if self._membership is not None else None,
        )
        objective = result.objective
        return objective if isinstance(objective, tuple) else (objective,)

    def pictures(self) -> list[str]:
        paths = [Path(self.directory) / name for name in _PICTURES]
        return [str(path) for path in paths if path.is_file()]

    def summary(self) -> dict[str, Any]:
        from experiments.record import read_result

        try:
            result = read_result(Path(self.directory))
        except UserError:  # it failed before its record began
            return {}
        return {key: result[key] for key in _SUMMARY if key in result}


def _outcome(result: Mapping[str, Any], directory: Path) -> tuple[float, ...]:
    """Of a record whose trial was finished, but not told."""
    if result["status"] == "pruned":
        from experiments.record import LAST

        end = Paused if (directory / LAST).is_file() else Pruned
        raise end(str(result["reason"]))
    return tuple(float("nan") if v is None else float(v) for v in result["objective"]["values"])
