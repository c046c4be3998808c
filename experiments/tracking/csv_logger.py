"""Lightning's CSV logger, in a record that may be another process's by now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger

from experiments.record.fence import writing


class FencedCSVLogger(CSVLogger):
    """Writes only while the record is its process's.

    Raises:
        Superseded: from each of its methods that writes, once it is not.
    """

    @property
    def experiment(self) -> Any:
        """Lightning's writer, which removes the rows of an earlier one when it is made."""
        if self._experiment is None:
            with writing(Path(self.log_dir)):
                return super().experiment
        return super().experiment

    def log_hyperparams(self, params: Any = None) -> None:
        _ = self.experiment
        with writing(Path(self.log_dir)):
            super().log_hyperparams(params)

    def save(self) -> None:
        _ = self.experiment
        with writing(Path(self.log_dir)):
            super().save()
