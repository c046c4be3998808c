"""What a worker needs to know, as plain values that travel to other processes and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid

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
        command: the process that gave the command, as `sweeps.study.leases.holder` names it.
        working_directory: for relative paths in the config.
        study_id: unique in the world; None for trials that leave no record.
        verbose: Hydra's `hydra.verbose`: whether workers say everything, or which loggers do.
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
    study_id: str | None = None
    verbose: bool | str | Sequence[str] = False


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
            _ = dimension.size  # refuses an interval
    elif not space.is_enumerated:
        return False
    if n_trials is None:
        return True
    size = Grid(space).size
    if asked_for and size > n_trials:
        raise UserError(
            "`hydra.sweeper.n_trials` (`run_cap` in a W&B sweep file) must be the number of "
            f"points of the grid, {size}, or more, but got {n_trials}; raise it, leave it out for "
            "all points, or choose another sampler"
        )
    return size <= n_trials
