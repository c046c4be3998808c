"""One trial from config to record: load, train, score, log, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import objectives, validate
from experiments.errors import TrialError, UserError
from experiments.metrics import METRICS
from experiments.record import CONFIG, RESULT, Record, discard

if TYPE_CHECKING:
    from pytorch_lightning.callbacks import Callback

    from experiments.device import Hardware
    from experiments.parts import Data, Schedule
    from models.vae import VAE

_PROBES = 16  # validation images whose reconstructions are shown
_GRID = 64  # samples shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Of a completed trial.

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


def run_trial(
    config: Mapping[str, Any],
    directory: str | Path,
    *,
    in_sweep: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Train one VAE and leave a record in `directory`.

    Args:
        config: plain values, as `experiments.config.plain` makes them.
        directory: of the record; its parents are made.
        in_sweep: whether the trial is one of many: no table at the end, no test split.
        callbacks: more of Lightning's callbacks, called after the trial's own.

    Raises:
        UserError: something is wrong with the config, the data or the machine; nothing is left
            behind.
        TrialError: the loss became NaN or infinite; the record says at which step.
    """
    record = Record(directory, config)
    try:
        validate(config)
        trial = _prepare(config, record)
        record.begin()
    except (UserError, OSError):
        discard(record.directory)
        raise
    with _logging(trial, in_sweep) as loggers, _ending(record):
        record.update(timings={"prepare_seconds": record.seconds()})
        _train(trial, loggers, callbacks)
        result = _score(trial, in_sweep)
    if not in_sweep:
        _report(trial, result)
    return result


def _prepare(config: Mapping[str, Any], record: Record) -> _Trial:
    from experiments import parts

    images = parts.load(config)
    # PyTorch loads only now, so that mistakes in the data are told at once.
    from experiments.device import choose_hardware, seed_everything

    trainer = config["trainer"]
    hardware = choose_hardware(
        device=trainer["device"],
        precision=trainer["precision"],
        memory_format=trainer["memory_format"],
        threads=trainer["threads"],
    )
    data = parts.batched(config, images, hardware.device)
    when = parts.schedule(config, len(data.train))
    loss = parts.build_loss(config, images.image_shape)
    parts.check_extractor(config, images)
    seed_everything(config["seed"])
    vae = parts.build_vae(config, loss, images.image_shape, hardware, when)
    record.directory.mkdir(parents=True, exist_ok=True)
    network_bytes = sum(p.numel() * p.element_size() for p in vae.network.parameters())
    parts.check_space(record.directory, network_bytes)
    record.result |= {
        "hardware": {**vars(hardware)},
        "data": {
            "source": images.source,
            "fingerprint": images.fingerprint,
            "image_shape": list(images.image_shape),
            "skipped": [vars(skipped) for skipped in images.skipped],
            **{name: len(indices) for name, indices in vars(data.splits).items()},
        },
        "network_parameters": sum(p.numel() for p in vae.network.parameters()),
    }
    return _Trial(config, record, hardware, data, when, vae)


@contextmanager
def _logging(trial: _Trial, in_sweep: bool) -> Iterator[list[Any]]:
    """The loggers, closed whatever happens."""
    config, record = trial.config, trial.record
    settings = config["logger"]
    if settings["name"] == "none":
        yield []
        return
    if settings["name"] == "csv":
        from pytorch_lightning.loggers import CSVLogger

        yield [CSVLogger(record.directory, name="csv", version="")]
        return
    from experiments import tracking

    title = f"{config['loss']['name']} z{config['latent_dim']} lr{config['lr']:g}"
    try:
        logger = tracking.start(
            record.directory,
            project=settings["project"],
            entity=settings["entity"],
            name=f"{title} seed{config['seed']}",
            group=settings["group"] or config["name"],
            tags=[config["loss"]["name"], config["data"]["name"], *settings["tags"]],
            config=dict(config),
            objectives={name: METRICS[name].direction for name in objectives(config)},
        )
    except UserError:
        discard(record.directory, also={RESULT, CONFIG, "wandb"})
        raise
    record.update(wandb=tracking.describe(logger))
    try:
        yield [logger]
    finally:
        result = record.result
        tracking.finish(
            logger,
            status=result["status"],
            reason=result["reason"],
            summary={
                f"final/{split}/{name}": value
                for split, metrics in result["metrics"].items()
                for name, value in metrics.items()
            },
        )


@contextmanager
def _ending(record: Record) -> Iterator[None]:
    """Write into the record how the trial ended."""
    from models.vae import DivergedError

    try:
        yield
    except DivergedError as error:
        record.end("failed", str(error))
        raise TrialError(f"{error}\nrecord: {record.directory}") from error
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning ends on SIGTERM by SystemExit
        by_user = isinstance(error, KeyboardInterrupt)
        record.end("interrupted", "by the user" if by_user else "by the system")
        log.info("interrupted; record: %s", record.directory)
        raise SystemExit(130 if by_user else 143) from error
    except Exception as error:
        record.end("failed", f"{type(error).__name__}: {error}")
        raise
    record.end("completed")


def _train(trial: _Trial, loggers: list[Any], callbacks: Sequence[Callback]) -> None:
    from pytorch_lightning.loggers import WandbLogger

    from experiments.callbacks import Pictures, Progress, Scores
    from experiments.training import fit, quiet_lightning

    config, record = trial.config, trial.record
    own: list[Callback] = [Scores(record)]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            every = config["logger"]["log_images_every"]
            own.append(Pictures(_probes(trial), logger, every, trial.hardware.device))
    own.append(Progress(objectives(config)[0], quiet=not config["trainer"]["progress"]))
    started = time.monotonic()
    with quiet_lightning():
        trainer = fit(
            trial.vae,
            trial.data,
            config,
            directory=record.directory,
            hardware=trial.hardware,
            when=trial.when,
            loggers=loggers,
            callbacks=[*own, *callbacks],
        )
    seconds = time.monotonic() - started
    images = trainer.global_step * config["batch_size"]
    record.result["timings"] |= {
        "fit_seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1),
    }
    record.update(epochs=trainer.current_epoch, steps=trainer.global_step)


def _score(trial: _Trial, in_sweep: bool) -> Result:
    """Score the best weights in float32 and write everything that a person looks at."""
    from experiments.scoring import score
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
        probes=_probes(trial),
        grid_size=_GRID,
        test=not in_sweep if test is None else test,
        samples=config["evaluation"]["samples"],
        feature_extractor=config["evaluation"]["feature_extractor"],
    )
    record.result["timings"]["score_seconds"] = round(time.monotonic() - started, 3)
    values = tuple(metrics["val"][name] for name in objectives(config))
    objective = values[0] if len(values) == 1 else values
    record.update(
        metrics=metrics,
        objective={"names": objectives(config), "values": list(values)},
        checkpoint=CHECKPOINT,
    )
    return Result(objective, metrics, record.directory)


def _probes(trial: _Trial) -> Any:
    """The fixed validation images that are shown, (16, C, H, W), uint8."""
    import numpy as np
    import torch

    chosen = trial.data.splits.val[:_PROBES]
    return torch.from_numpy(np.ascontiguousarray(trial.data.images.images[chosen]))


def _report(trial: _Trial, result: Result) -> None:
    from experiments.terminal import print_result
    from experiments.training import CHECKPOINT

    record = trial.record
    paths = {
        "record": record.path(RESULT),
        "checkpoint": record.path(CHECKPOINT),
        "reconstructions": record.path("reconstructions.png"),
        "samples": record.path("samples.png"),
    }
    steps, seconds = record.result["steps"], record.result["timings"]["total_seconds"]
    title = (
        f"{trial.config['name']}: {record.result['epochs']} epochs, {steps} steps, {seconds:.0f} s"
    )
    print_result(title, result.metrics, paths)
