"""What a worker needs to know, as plain values that travel to other processes and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from sweeps.settings import Settings
from sweeps.space.dimensions import Space
from sweeps.space.grid import Grid
from sweeps.space.points import Values


@dataclass(frozen=True)
class Plan:
    """One command's part in a study.

    Attributes:
        settings: what the user set; `n_trials` is that of the whole study, and None for every point
            of a grid.
        storage: what `sweeps.storage.opening.open_storage` takes.
        directory: of the sweep, absolute, on the machine that gave the command.
        session: of this command, unique.
        space: what is searched.
        grid: every point is run; else a sampler chooses.
        compare: keys whose values are compared; empty where nothing is.
        first: of each level, by its name, the values that its first trials have: where past sweeps
            ended, and the config's. Without levels the name is empty.
        design: what the study says of its comparison, see `sweeps.contest.design`.
        objectives: names of the metrics.
        pruner: its config, the one that is used, complete.
        workers: of this command; 0 for one in the command's own process.
        threads: of each trial on a CPU; None leaves PyTorch's own choice.
        on_one_machine: the workers share its cores and GPUs; else each has those it is given.
        command: the process that gave the command, as `sweeps.study.leases.holder` names it.
        working_directory: for relative paths in the config.
        deadline: seconds since the epoch, by the clock of the command, after which no trial begins.
        study_id: unique in the world; None for trials that leave no record.
        verbose: Hydra's `hydra.verbose`: whether workers say everything, or which loggers do.
    """

    settings: Settings
    storage: Any
    directory: Path
    session: str
    space: Space
    grid: bool
    objectives: tuple[str, ...]
    pruner: Mapping[str, Any]
    workers: int
    threads: int | None
    on_one_machine: bool
    command: Mapping[str, Any]
    working_directory: Path
    deadline: float | None = None
    study_id: str | None = None
    verbose: bool | str | Sequence[str] = False
    compare: tuple[str, ...] = ()
    first: Mapping[str, Sequence[Values]] = field(default_factory=dict)
    design: Mapping[str, Any] = field(default_factory=dict)

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.settings.study_name


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
