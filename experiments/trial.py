"""One trial from config to record: load, train, score, log, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import objectives, validate
from experiments.errors import Interrupted, Paused, Pruned, TrialError, UserError
from experiments.machine.cores import FreeCores, cores
from experiments.machine.home import ensure_home
from experiments.machine.loading import loading
from experiments.machine.signals import EXIT_STATUS, INTERRUPTED, exits_told
from experiments.metrics import METRICS
from experiments.ranks.environment import be_rank_zero, ranks_hidden
from experiments.ranks.process_group import ProcessGroup, process_group_of
from experiments.record import LAST, RESULT, Record, at_full_weight, discard, hardware_settings
from experiments.record.files import check_space, of_full_disk, remove_unfinished
from experiments.record.membership import refuse_taken
from experiments.tracking.loggers import open_loggers

if TYPE_CHECKING:
    from pytorch_lightning.callbacks import Callback

    from experiments.building import Data, Schedule
    from experiments.data import ImageSet
    from experiments.machine.device import Hardware
    from experiments.resume import Session
    from experiments.threads import Threads
    from models.vae import VAE

_SAMPLE_IMAGES = 16  # validation images whose reconstructions are shown
_GRID = 64  # samples shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Outcome of a completed trial.

    Attributes:
        objective: the value of the objective on the validation split, or of each of several.
        metrics: all metrics of each split that was scored.
        directory: of the record.
    """

    objective: float | tuple[float, ...]
    metrics: dict[str, dict[str, float]]
    directory: Path


@dataclass(frozen=True)
class _Trial:
    """Everything that is ready before the first step."""

    config: Mapping[str, Any]
    record: Record
    hardware: Hardware
    data: Data
    when: Schedule
    vae: VAE
    session: Session | None
    threads: Threads
    group: ProcessGroup | None

    @property
    def last(self) -> Path | None:
        """The checkpoint from which it continues."""
        return self.record.path(LAST) if self.session else None


@ranks_hidden()
def run_trial(
    config: Mapping[str, Any],
    directory: str | Path,
    *,
    in_sweep: bool = False,
    callbacks: Sequence[Callback] = (),
    resumable: bool = False,
    should_stop: Callable[[], bool] | None = None,
    images: ImageSet | None = None,
    study: Mapping[str, Any] | None = None,
    thread_changes: Sequence[tuple[int, int]] | None = None,
    rerun_of: str | None = None,
) -> Result:
    """Train one VAE and leave a record in `directory`.

    Args:
        config: plain values, as `experiments.config.plain` makes them.
        directory: of the record; its parents are made.
        in_sweep: whether the trial is one of many: no table at the end, no test split.
        callbacks: more of Lightning's callbacks, called after the trial's own; their
            `state_dict` is part of the checkpoints.
        resumable: keep checkpoints/last.ckpt until the trial ends, and continue from it if
            `directory` holds the unfinished record of the same trial.
        should_stop: asked at the end of every epoch but the last; if it says so, the trial ends
            with `Interrupted` and, if `resumable`, a checkpoint of that moment. An epoch is
            never cut short. It may raise `Pruned`, or `Paused`, which keeps the checkpoint.
        images: those that the config names, if they are loaded already.
        study: whose trial it is, as `record.membership` notes it; None for a single run.
        thread_changes: of the record that is repeated: steps after which there are so many
            threads. None to take as many as the machine has free, if `trainer.threads` is.
        rerun_of: the directory of that record, beside which this is no other trial.

    Raises:
        Interrupted: `should_stop` said so.
        Pruned: `should_stop` said so, or the run was stopped at W&B; the record has the validation
            metrics of the best epoch.
        UserError: something is wrong with the config, the data or the machine; nothing is left
            behind.
        TrialError: the loss became NaN or infinite; the record says at which step.
    """
    ensure_home()
    free = FreeCores()  # looks at the machine while the libraries and images are loaded
    record = Record(directory, config, study, rerun_of)
    with ExitStack() as stack:
        try:
            if not resumable:
                refuse_taken(record.directory)
            validate(config)
            group = stack.enter_context(process_group_of(config))
            trial = _prepare(
                config, record, images, resumable, in_sweep, free, thread_changes, group
            )
            _begin(trial, resumable)
        except (UserError, OSError):
            discard(record.directory)
            raise
        loggers = stack.enter_context(open_loggers(config, record))
        stack.enter_context(_ending(trial))
        record.took("prepare", record.seconds())
        record.save()
        with _watching(trial, loggers) as watching:
            _train(trial, loggers, [*watching, *callbacks], resumable, should_stop)
            result = _score(trial, loggers, in_sweep)
    _report(trial, result, in_sweep)
    return result


def _prepare(
    config: Mapping[str, Any],
    record: Record,
    images: ImageSet | None,
    resumable: bool,
    in_sweep: bool,
    free: FreeCores,
    thread_changes: Sequence[tuple[int, int]] | None,
    group: ProcessGroup | None,
) -> _Trial:
    from experiments import building

    images = building.load(config) if images is None else images
    # PyTorch loads only now, so that mistakes in the data are told at once.
    with loading():
        from experiments.machine.device import choose_hardware, of_rank
        from experiments.preflight.telling import forecast_trial
        from experiments.threads import Threads, first_threads, is_fixed

    be_rank_zero()
    session = None
    if resumable:
        from experiments.resume import find_session

        session = find_session(record.directory, config, images.fingerprint, is_single=not in_sweep)
    trainer = config["trainer"] | (hardware_settings(session.result) if session else {})
    device, threads = trainer["device"], first_threads(trainer["threads"], free)
    if group is not None:
        device = of_rank(device, group.place.local_rank, last=group.last_started)
        if not is_fixed(config["trainer"]["threads"]):
            threads = max(1, min(threads, cores() // config["trainer"]["devices"]))
    hardware = choose_hardware(
        device=device,
        precision=trainer["precision"],
        memory_format=trainer["memory_format"],
        threads=threads,
    )
    building.check_metrics(config, images.image_shape)
    building.check_extractor(config, images)
    ranks = group.ranks if group else None
    data, when, loss, vae = building.build(config, images, hardware, ranks)
    record.directory.mkdir(parents=True, exist_ok=True)
    network_bytes = sum(p.numel() * p.element_size() for p in vae.network.parameters())
    check_space(record.directory, network_bytes, resumable=resumable)
    record.result |= {
        "hardware": {
            **vars(hardware),
            "thread_changes": [],
            "processes": group.place.world if group else 1,
        },
        "data": {
            "source": images.source,
            "fingerprint": images.fingerprint,
            "image_shape": list(images.image_shape),
            "skipped": [vars(skipped) for skipped in images.skipped],
            "other_files": images.others,
            "remarks": [remark.text for remark in images.remarks],
            **{name: len(indices) for name, indices in vars(data.splits).items()},
        },
        "network_parameters": sum(p.numel() for p in vae.network.parameters()),
        "preflight": forecast_trial(config, loss, images, data.splits.train),
    }
    fixed = group is not None or is_fixed(config["trainer"]["threads"])
    changing = Threads(record, None if fixed else free, thread_changes)
    return _Trial(config, record, hardware, data, when, vae, session, changing, group)


def _begin(trial: _Trial, resumable: bool) -> None:
    """Write the first files, over those of an earlier session or trial."""
    from experiments.resume import earlier_run, remove_results, restore_files

    record, session = trial.record, trial.session
    remove_unfinished(record.directory)
    if session is not None:
        changed = record.resume(session.result)
        restore_files(record, session)
        log.info("%s continues after epoch %d", record.directory, session.epochs)
        if changed:
            log.warning(
                "%s continues with other code than it began with, and its result is of both: %s",
                record.directory,
                "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items()),
            )
    else:
        fingerprint = trial.data.images.fingerprint
        run = earlier_run(record.directory, trial.config, fingerprint) if resumable else None
        if run is not None:
            record.result["wandb"] = run
        remove_results(record.directory)
    record.begin()
    others = f", on {trial.group.place.world} processes" if trial.group else ""
    log.info("computes on %s%s", trial.hardware, others)


@contextmanager
def _ending(trial: _Trial) -> Iterator[None]:
    """Write into the record how the trial ended."""
    from models.vae import DivergedError

    record = trial.record
    try:
        yield
    except Pruned as error:
        _note_best_epoch(trial)
        record.end("pruned", str(error), may_go_on=isinstance(error, Paused))
        log.info("pruned: %s", error)
        raise
    except Interrupted as error:
        record.end("interrupted", str(error))
        log.info("interrupted: %s", error)
        raise
    except DivergedError as error:
        record.end("failed", str(error))
        raise TrialError(f"{error}\nrecord: {record.directory}") from error
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning ends on either by SystemExit
        by_user = KeyboardInterrupt in (type(error), type(error.__context__))
        record.end("interrupted", "by the user" if by_user else "by the system")
        log.info("interrupted; record: %s", record.directory)
        raise SystemExit(INTERRUPTED if by_user else EXIT_STATUS) from error
    except Exception as error:
        full = of_full_disk(error, record.directory)
        if full is None:
            record.end("failed", f"{type(error).__name__}: {error}")
            raise
        with suppress(OSError):  # «running», as it then says, can be continued as well
            record.end("interrupted", str(full))
        raise full from error
    else:
        record.end("completed")


def _note_best_epoch(trial: _Trial) -> None:
    """Note the metrics of the best epoch of a trial that was pruned: no more is scored."""
    from experiments.training import CHECKPOINT

    result, rows = trial.record.result, trial.record.history()
    name = objectives(trial.config)[0]
    better = max if METRICS[name].direction == "maximize" else min
    # A value that is None was NaN or infinite.
    scored = [row for row in at_full_weight(rows) if row[f"val/{name}"] is not None]
    if scored:
        best = better(scored, key=lambda row: float(row[f"val/{name}"]))
        values = {k.removeprefix("val/"): v for k, v in best.items() if k.startswith("val/")}
        result |= {"metrics": {"val": values}}
    if rows:
        result |= {"epochs": rows[-1]["epoch"] + 1, "steps": rows[-1]["step"]}
    if trial.record.path(CHECKPOINT).exists():
        result |= {"checkpoint": CHECKPOINT}


@contextmanager
def _watching(trial: _Trial, loggers: list[Any]) -> Iterator[list[Callback]]:
    """The callbacks for the loggers; the last pictures are drawn while the trial is scored."""
    from experiments.callbacks import Pictures, StoppedAtWandb
    from experiments.tracking.loggers import ShowsPictures
    from experiments.tracking.wandb.logger import SafeWandbLogger

    every, device = trial.config["logger"]["log_images_every"], trial.hardware.device
    with ExitStack() as stack:
        callbacks: list[Callback] = []
        for logger in loggers:
            if isinstance(logger, ShowsPictures):
                pictures = Pictures(_sample_images(trial), logger, every, device)
                stack.callback(pictures.close)
                callbacks.append(pictures)
            if isinstance(logger, SafeWandbLogger):
                callbacks.append(StoppedAtWandb(logger))
        yield callbacks


def _train(
    trial: _Trial,
    loggers: list[Any],
    callbacks: Sequence[Callback],
    resumable: bool,
    should_stop: Callable[[], bool] | None,
) -> None:
    from experiments.callbacks import Progress, Scores
    from experiments.resume import LastCheckpoint
    from experiments.training import fit, quiet_lightning

    config, record = trial.config, trial.record
    own: list[Callback] = [
        LastCheckpoint(record, should_stop, save=resumable),
        trial.threads,
        Scores(record, objectives(config)[0]),
        Progress(objectives(config)[0], quiet=not config["trainer"]["progress"]),
    ]
    with quiet_lightning(), exits_told(), _together(trial):
        started = time.monotonic()
        trainer = fit(
            trial.vae,
            trial.data,
            config,
            directory=record.directory,
            hardware=trial.hardware,
            when=trial.when,
            loggers=loggers,
            callbacks=[*own, *callbacks],
            last=trial.last,
            ranks=trial.group.ranks if trial.group else None,
        )
    record.took("fit", time.monotonic() - started)
    timings = record.result["timings"]
    images = trainer.global_step * config["batch_size"]
    timings["images_per_second"] = round(images / timings["fit_seconds"], 1)
    record.update(epochs=trainer.current_epoch, steps=trainer.global_step)


@contextmanager
def _together(trial: _Trial) -> Iterator[None]:
    """With the trial's other processes, if it has any, training the same."""
    if trial.group is None:
        yield
        return
    import torch

    from experiments.machine.device import random_state

    hardware = trial.hardware
    message = {
        "config": {**trial.config, "trainer": {**trial.config["trainer"], "progress": False}},
        "fingerprint": trial.data.images.fingerprint,
        "directory": str(trial.record.directory),
        "hardware": hardware_settings({"hardware": vars(hardware)}),
        "random_state": random_state(torch.device(hardware.device)),
        "last": str(trial.last) if trial.last else None,
    }
    with trial.group.training(message, hardware.device):
        yield


def _score(trial: _Trial, loggers: list[Any], in_sweep: bool) -> Result:
    """Score the best weights in float32 and write everything that a person looks at."""
    from pytorch_lightning.loggers import WandbLogger

    from experiments.scoring.checkpoint import score
    from experiments.tracking.wandb.image_table import log_sample_images
    from experiments.training import CHECKPOINT

    record, config = trial.record, trial.config
    started = time.monotonic()
    test = config["evaluation"]["test"]
    metrics = score(
        trial.vae.network,
        trial.data,
        record.path(CHECKPOINT),
        directory=record.directory,
        device=trial.hardware.device,
        sample_images=_sample_images(trial),
        grid_size=_GRID,
        test=not in_sweep if test is None else test,
        samples=config["evaluation"]["samples"],
        feature_extractor=config["evaluation"]["feature_extractor"],
        objectives=objectives(config),
    )
    record.took("score", time.monotonic() - started)
    values = tuple(metrics["val"][name] for name in objectives(config))
    objective = values[0] if len(values) == 1 else values
    record.update(
        metrics=metrics,
        objective={"names": objectives(config), "values": list(values)},
        checkpoint=CHECKPOINT,
    )
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            log_sample_images(
                logger,
                trial.vae.network,
                _sample_images(trial),
                trial.data.images.digests[trial.data.splits.val[:_SAMPLE_IMAGES]],
                record.directory,
                device=trial.hardware.device,
                step=record.result["steps"],
            )
    return Result(objective, metrics, record.directory)


def _sample_images(trial: _Trial) -> Any:
    """The fixed validation images that are shown, (16, C, H, W), uint8."""
    import numpy as np
    import torch

    chosen = trial.data.splits.val[:_SAMPLE_IMAGES]
    return torch.from_numpy(np.ascontiguousarray(trial.data.images.images[chosen]))


def _report(trial: _Trial, result: Result, in_sweep: bool) -> None:
    """Say how it went; a trial of many has a line in place of the table."""
    from experiments.scoring.symptoms import symptoms

    record = trial.record
    epochs, steps = record.result["epochs"], record.result["steps"]
    took = f"{epochs} epochs, {steps} steps, {record.result['timings']['total_seconds']:.0f} s"
    if in_sweep:
        values = (f"{name} {result.metrics['val'][name]:.4g}" for name in objectives(trial.config))
        log.info("completed: %s; %s", took, ", ".join(values))
    else:
        _print(record, result, f"{trial.config['name']}: {took}")
    for symptom in symptoms(
        record.result["parameters"],
        result.metrics["val"],
        record.history(),
        objective=objectives(trial.config)[0],
        epochs=epochs,
    ):
        log.warning("%s: %s; try %s", symptom.kind, symptom.evidence, symptom.remedy)


def _print(record: Record, result: Result, title: str) -> None:
    from experiments.terminal import print_result
    from experiments.training import CHECKPOINT

    paths = {
        "record": record.path(RESULT),
        "checkpoint": record.path(CHECKPOINT),
        "reconstructions": record.path("reconstructions.png"),
        "samples": record.path("samples.png"),
    }
    print_result(title, result.metrics, paths)
