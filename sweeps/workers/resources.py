"""The cores and GPUs of this machine, and how workers share them."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError
from experiments.machine.cores import cores

_MOST_WORKERS = 8  # by default: a sampler knows nothing of the trials that run beside the next

log = logging.getLogger(__name__)


def usual_workers(
    trainer: Mapping[str, Any],
    *,
    trials: int | None,
    repeatable: bool,
    trials_per_gpu: int,
    gpus_per_trial: int = 1,
) -> int:
    """How many workers a command on this machine has where nobody says it.

    One for each core: small networks gain more from another trial than from another thread (two
    workers with one thread each train 1.2 times the images of one with two, at 32, 64 and 128
    pixels). With GPUs, as many as these may hold.

    Args:
        trainer: the config's `trainer`.
        trials: at most as many as there are trials; None for no bound.
        repeatable: a seeded sampler repeats itself only where one worker asks it.
        trials_per_gpu: that share a GPU.
        gpus_per_trial: processes of a trial, each of which has one.
    """
    if repeatable:
        return 1
    gpus = visible_gpus() if trainer["device"] == "auto" else 0
    if gpus:
        most = gpus // gpus_per_trial * trials_per_gpu
    elif trainer["device"] in ("auto", "cpu"):
        threads = (trainer["threads"] or 1) * gpus_per_trial
        most = min(cores() // threads, _MOST_WORKERS)
    else:
        most = 1  # a single device, which the user named
    return max(1, most if trials is None else min(most, trials))


def threads_per_worker(workers_on_machine: int) -> int | None:
    """The machine's cores divided among its workers; None for one worker, which has them all.

    Two processes with two threads each on two cores run at a third to two thirds of the speed of
    two with one thread each.
    """
    if workers_on_machine <= 1:
        return None
    return max(1, cores() // workers_on_machine)


def processes_per_trial(gpus_per_trial: int, devices: int) -> int:
    """How many processes, and so GPUs, a trial has on its machine.

    Args:
        gpus_per_trial: the config's `sweep.gpus_per_trial`.
        devices: its `trainer.devices`.

    Raises:
        UserError: both say a number, and not the same one.
    """
    if gpus_per_trial > 1 < devices != gpus_per_trial:
        raise UserError(
            "`sweep.gpus_per_trial` must be `trainer.devices` where both are given, but got "
            f"{gpus_per_trial} and {devices}; leave trainer.devices out"
        )
    return max(gpus_per_trial, devices)


def device_of(worker: int, gpus: int, gpus_per_trial: int = 1) -> str | None:
    """The device of a worker, of several the first: groups in turn; None where there is no GPU."""
    groups = gpus // gpus_per_trial
    return f"cuda:{worker % groups * gpus_per_trial}" if groups else None


def check_gpus(workers: int, gpus: int, trials_per_gpu: int, gpus_per_trial: int = 1) -> None:
    """Refuse more workers than the machine's GPUs may hold.

    Raises:
        UserError: there are more, or a single one has too few.
    """
    if gpus and gpus_per_trial > gpus:
        raise UserError(
            "`sweep.gpus_per_trial` (or `trainer.devices`) must be at most the number of this "
            f"machine's GPUs, {gpus}, but got {gpus_per_trial}"
        )
    most = gpus // gpus_per_trial * trials_per_gpu
    if gpus and workers > most:
        groups = f" in groups of {gpus_per_trial}" if gpus_per_trial > 1 else ""
        raise UserError(
            f"`hydra.sweeper.n_jobs` must be at most {most} with {gpus} GPUs{groups} and "
            f"sweep.trials_per_gpu={trials_per_gpu}, but got {workers}; lower it, or raise "
            "sweep.trials_per_gpu to let trials share a GPU"
        )


def tell_how_to_share(workers: int, gpus: int) -> None:
    """Say what lets trials run side by side on a GPU, where they would take turns.

    Measured with the default network at 64x64 on an H200: four processes together train no more
    images than one, and 2.3 times as many under NVIDIA's Multi-Process Service.
    """
    if gpus and workers > gpus and not _has_process_service():
        log.info(
            "trials that share a GPU take turns on it; start NVIDIA's Multi-Process Service "
            "(nvidia-cuda-mps-control -d) to have them run side by side"
        )


def _has_process_service() -> bool:
    pipes = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
    return os.path.exists(os.path.join(pipes, "control"))


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine that a process may use, without loading PyTorch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))
