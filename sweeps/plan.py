"""What a worker needs to know, as plain values that travel to other processes and machines."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from sweeps.space import Space

DEFAULT_TRIALS = 20
"""Of a search without end, where `n_trials` is not given."""


@dataclass(frozen=True)
class Limits:
    """When a sweep ends.

    Attributes:
        n_trials: of the whole study; None for every cell of a grid.
        deadline: seconds since the epoch after which no trial begins.
        stop_after_no_improvement: finished trials in a row without a better one.
        max_failure_rate: of this command's finished trials, once there are five.
        max_retries: of a trial whose worker died.
        confirm: best configurations that race with fresh seeds at the end.
        confirm_seeds: the most that each of those gets.
    """

    n_trials: int | None = None
    deadline: float | None = None
    stop_after_no_improvement: int | None = None
    max_failure_rate: float = 0.5
    max_retries: int = 2
    confirm: int = 0
    confirm_seeds: int = 5


@dataclass(frozen=True)
class Plan:
    """One command's part in a study.

    Attributes:
        study: name of the study.
        storage: what `sweeps.storages.open_storage` takes.
        directory: of the sweep, absolute, on the machine that gave the command.
        session: of this command, unique.
        space: what is searched.
        grid: every cell is run; else a sampler chooses.
        objectives: names of the metrics.
        sampler: its config.
        pruner: its config.
        max_epochs: of the config without the search, for pruners that count in epochs.
        limits: when to stop.
        workers: of this command; 0 for one in the command's own process.
        threads: of each trial on a CPU; None leaves PyTorch's own choice.
        on_one_machine: the workers share its cores and GPUs; else each has those it is given.
        command: the process that gave the command, as `sweeps.leases.holder` names it.
        working_directory: for relative paths in the config.
    """

    study: str
    storage: Any
    directory: Path
    session: str
    space: Space
    grid: bool
    objectives: tuple[str, ...]
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    max_epochs: int
    limits: Limits
    workers: int
    threads: int | None
    on_one_machine: bool
    command: Mapping[str, Any]
    working_directory: Path


def artifacts_directory(plan: Plan) -> Path:
    """Where optuna-dashboard finds the trials' pictures."""
    return plan.directory / "artifacts"


def is_grid_search(space: Space, n_trials: int | None, *, asked_for: bool) -> bool:
    """Whether every combination is run.

    That is what a list of choices says; where the budget is too small for all of them, a sampler
    chooses.

    Raises:
        UserError: a grid was asked for, but the space or the budget does not allow one.
    """
    if asked_for:
        for dimension in space.dimensions:
            dimension.values()  # refuses an interval
    elif not space.is_enumerated:
        return False
    if n_trials is None:
        return True
    cells = space.cell_count(n_trials + 1)
    if asked_for and cells > n_trials:
        raise UserError(
            "`hydra.sweeper.n_trials` (`run_cap` in a W&B sweep file) must be the number of cells "
            f"of the grid or more, but got {n_trials}; raise it, leave it out for all cells, or "
            "choose another sampler"
        )
    return cells <= n_trials


def threads_per_worker(workers_on_machine: int) -> int | None:
    """The machine's cores divided among its workers; None for one worker, which has them all.

    Two processes with two threads each on two cores run at a third to two thirds of the speed of
    two with one thread each.
    """
    if workers_on_machine <= 1:
        return None
    return max(1, cores() // workers_on_machine)


def cores() -> int:
    """Of the machine, or of the part of it that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    # Where SLURM does not bind jobs to cores, it says only here how many are the job's.
    allotted = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    return min(usable, int(allotted)) if allotted else usable


def device_of(worker: int, gpus: int) -> str | None:
    """The device of a worker: GPUs in turn; None where there is none."""
    return f"cuda:{worker % gpus}" if gpus else None


def check_gpus(workers: int, gpus: int, trials_per_gpu: int) -> None:
    """Refuse more workers than the machine's GPUs may hold.

    Raises:
        UserError: there are more.
    """
    if gpus and workers > gpus * trials_per_gpu:
        raise UserError(
            f"`hydra.sweeper.n_jobs` must be at most {gpus * trials_per_gpu} with {gpus} GPUs "
            f"and sweep.trials_per_gpu={trials_per_gpu}, but got {workers}; raise "
            "sweep.trials_per_gpu to let trials share a GPU"
        )


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine that a process may use, without loading PyTorch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
    return len(glob.glob("/dev/nvidia[0-9]*"))
