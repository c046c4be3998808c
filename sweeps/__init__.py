"""Sweeps: an Optuna study whose trials are trained by workers that share only its storage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.command import Sweep
    from sweeps.workers.task import Task

ROOT = Path(__file__).parents[1]


def whitelist() -> list[str]:
    """What Hydra may call on a config's word, besides its plugins and its usual log handlers.

    Single names, since whole packages hold functions that run any command
    (`hydra.test_utils`), and what the user trusts. Losses, models and data sources are known by
    name and need no such permission; samplers, pruners and storages have lists of their own.
    """
    from experiments.config.permitted import CALLBACKS
    from losses.trust import trusted_packages

    return [
        *CALLBACKS,
        "logging.NullHandler",
        *(f"{package}.*" for package in trusted_packages()),
    ]


def run(overrides: Sequence[str], *, task: Task | None = None) -> Sweep:
    """Run a sweep as `python run.py -m OVERRIDES` does, for notebooks and scripts.

    Scripts call it below `if __name__ == "__main__":`, since the workers are processes that
    import the script; `hydra.sweeper.n_jobs=0` trains in this process.

    >>> sweep = run(["loss=ssim,mse", "lr=1e-3,3e-4", "experiments=quick"])  # doctest: +SKIP
    >>> sweep.table.sort_values("objective/psnr")  # doctest: +SKIP

    Args:
        overrides: of Hydra, as on the command line.
        task: what a trial is; None trains a VAE.

    Returns:
        The study, a table with a row for each trial, and the directory of the records.

    Raises:
        UserError: something is wrong with the sweep or an override, or all of it failed.
        HydraException: an override cannot be composed.
        SystemExit: it was interrupted.
    """
    from hydra._internal.execution_policy import execution_whitelist
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import OverrideParseException

    from experiments import config
    from experiments.cli.grammar import advice, readable_conditions
    from experiments.errors import UserError
    from sweeps.sweeper import StudySweeper, register

    config.register()
    register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(ROOT / "conf")))
        with execution_whitelist(whitelist()), StudySweeper.running(task):
            sweep: Sweep = hydra.multirun("config", _no_task, readable_conditions(overrides))
    except OverrideParseException as error:
        raise UserError(advice(error.override, repr)) from error
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)
    return sweep


def _no_task(config: object) -> None:
    """Hydra wants a task function; the sweeper has its own."""
