"""Lightning's CSV logger, in a record that may be another process's by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger

from experiments.record import Record
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


@contextmanager
def open_csv(config: Mapping[str, Any], record: Record) -> Iterator[FencedCSVLogger]:
    """The logger of a trial; each session has a file, since it would delete an earlier one's."""
    sessions = len(record.result.get("resumed", []))
    version = f"resumed-{sessions}" if sessions else ""
    yield FencedCSVLogger(record.directory, name="csv", version=version)
