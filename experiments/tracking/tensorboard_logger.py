"""Lightning's TensorBoard logger, in a record that may be another process's by now."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from experiments.cli import commands
from experiments.errors import UserError
from experiments.record import Record, flat
from experiments.record.fence import is_lost, writing
from experiments.tracking.loggers import continues_at, run_summary

log = logging.getLogger(__name__)

_PACKAGES = ("tensorboard", "tensorboardX")  # either will do for Lightning


class FencedTensorBoardLogger(TensorBoardLogger):
    """Writes only while the record is its process's, and all of it at once.

    Raises:
        Superseded: from each of its methods that writes, once it is not.
    """

    _is_writing = False

    @property
    def experiment(self) -> Any:
        """Lightning's writer, which begins a file when it is made."""
        if self._experiment is None:
            with writing(Path(self.log_dir)):
                return super().experiment
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self._written():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(
        self, params: Any, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        with self._written():
            super().log_hyperparams(params, metrics, step)  # logs the metrics as well

    def encoded(self, picture: NDArray[Any]) -> NDArray[Any]:
        """A picture (H, W, C), uint8, as it is: the writer compresses it."""
        return picture

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, NDArray[Any]], step: int) -> None:
        """Log pictures where Lightning puts the metrics of a validation after so many steps."""
        with self._written():
            for name, picture in pictures.items():
                self.experiment.add_image(name, picture, max(0, step - 1), dataformats="HWC")

    def save(self) -> None:
        """Nothing: all is written, and the record has the hyper-parameters."""

    def finalize(self, status: str) -> None:
        """Nothing: what is measured after training is still to come."""

    @contextmanager
    def _written(self) -> Iterator[None]:
        """A context at whose end nothing waits for the writer's thread, which asks nobody."""
        writer = self.experiment
        if self._is_writing:
            yield
            return
        with writing(Path(self.log_dir)):
            self._is_writing = True
            try:
                yield
                writer.flush()
            finally:
                self._is_writing = False


@contextmanager
def open_tensorboard(
    config: Mapping[str, Any], record: Record
) -> Iterator[FencedTensorBoardLogger]:
    """The logger of a trial, which says at its end what it reached under which hyper-parameters.

    A trial that is continued takes back what was logged after the checkpoint that it begins from.

    Raises:
        UserError: no package writes TensorBoard's files.
    """
    if not any(map(find_spec, _PACKAGES)):
        raise UserError(
            "`logger=tensorboard` needs the package tensorboard, but it cannot be found: "
            f"{commands.install('tensorboard')}, or logger=csv"
        )
    logger = FencedTensorBoardLogger(
        record.directory, name="tensorboard", version="", default_hp_metric=False,
        purge_step=continues_at(record),
    )  # fmt: skip
    try:
        yield logger
    finally:
        if not is_lost(Path(logger.log_dir)):
            _finish(logger, config, record)


def _finish(logger: FencedTensorBoardLogger, config: Mapping[str, Any], record: Record) -> None:
    summary = run_summary(config, record.result)
    reached = {name: value for name, value in summary.items() if name.startswith("final/")}
    try:
        logger.log_hyperparams(flat(config), reached, record.result.get("steps", 0))
        logger.experiment.close()
    except OSError as error:  # the record is complete without it
        log.warning("TensorBoard: the end of the trial is not written: %s", error)
