"""Hydra's plugin: what `python run.py -m` calls. The work is in `sweeps.command`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from sweeps.command import AtEnd, Sweep
    from sweeps.workers.task import Task


class StudySweeper(Sweeper):
    """Runs an Optuna study by workers, not by batches of trials.

    The arguments are those of conf/hydra/sweeper/vaesweep.yaml.
    """

    _task: ClassVar[Task | None] = None
    at_end: ClassVar[AtEnd | None] = None

    def __init__(self, **settings: Any) -> None:
        self._settings: Mapping[str, Any] = settings

    @classmethod
    @contextmanager
    def running(cls, task: Task | None) -> Iterator[None]:
        """Sweeps in this context run another task; None trains VAEs."""
        before, cls._task = cls._task, task
        try:
            yield
        finally:
            cls._task = before

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._context, self._config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Sweep:
        """Run the sweep that the overrides describe.

        Raises:
            UserError: something is wrong with it, or it failed.
        """
        from sweeps.command import run_sweep

        return run_sweep(
            arguments,
            self._settings,
            self._config,
            self._context,
            task=self._task,
            at_end=type(self).at_end,
        )


def register(at_end: AtEnd | None = None) -> None:
    """Tell Hydra of the plugin, so that it need not be installed as a package.

    Args:
        at_end: called at the end of each sweep that was not interrupted; the paths that it
            returns are printed with the others, and its answer last. Should it fail, the sweep
            does not. None leaves what was registered before.
    """
    from hydra.core.plugins import Plugins

    from sweeps.space import loader

    loader.install()
    if at_end is not None:
        StudySweeper.at_end = staticmethod(at_end)
    Plugins.instance().register(StudySweeper)
