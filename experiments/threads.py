"""How many threads a trial computes with, from its first step to its last."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from experiments.machine.cores import FreeCores, cores, threads_for
from experiments.record import Record

_FIXED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SHORTEST = 0.3  # seconds: the processor times are counted in hundredths

log = logging.getLogger(__name__)


@cache
def usual_threads() -> int:
    """PyTorch's own choice, before any trial of this process changed it."""
    return torch.get_num_threads()


def most_threads() -> int:
    """Where nobody else works: PyTorch's own choice, but no more than there are cores."""
    return min(usual_threads(), cores())


def first_threads(given: int | None, free: FreeCores) -> int:
    """The number with which a trial begins.

    Args:
        given: by the config; None for what the machine has free.
        free: since the trial began.
    """
    usual, most = usual_threads(), most_threads()
    if is_fixed(given):
        return given or usual
    if free.seconds() < _SHORTEST:  # everything was loaded already, and there is no saying yet
        return Threads.latest or most
    found = free.look()
    Threads.latest = most if found is None else threads_for(found, most=most)
    return Threads.latest


def is_fixed(given: int | None) -> bool:
    """Whether the user has said how many threads there are: by the config or as PyTorch has it."""
    return given is not None or any(os.environ.get(name) for name in _FIXED_BY)


class Threads(Callback):
    """Takes as many threads as the machine has free, looking again every few seconds.

    The number may change the last bits of a sum, so the record says from which step on there were
    how many, and a checkpoint knows it; a rerun has the same from the same steps on.

    Args:
        record: gets the changes, as `hardware.thread_changes` in result.json.
        free: what to look at; None to change nothing.
        planned: changes to make, in place of looking: pairs of a number of steps, after which
            there are so many threads.
    """

    latest: ClassVar[int | None] = None
    """What a trial of this process found last."""

    def __init__(
        self,
        record: Record,
        free: FreeCores | None,
        planned: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self._record, self._free = record, free
        self._planned = None if planned is None else dict(planned)
        self._changes: list[list[int]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"changes": self._changes}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._changes = [list(change) for change in state_dict["changes"]]
        self._note()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._changes:  # of the session that is continued
            torch.set_num_threads(self._changes[-1][1])

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        wanted = self._wanted(trainer.global_step)
        if wanted is None or wanted == torch.get_num_threads():
            return
        torch.set_num_threads(wanted)
        self._changes.append([trainer.global_step, wanted])
        self._note()
        log.debug("step %d: %d threads from here on", trainer.global_step, wanted)

    def _wanted(self, step: int) -> int | None:
        if self._planned is not None:
            return self._planned.get(step)
        found = self._free.look_again() if self._free is not None else None
        if found is None:
            return None
        now = torch.get_num_threads()
        Threads.latest = threads_for(found, most=most_threads(), now=now)
        return Threads.latest

    def _note(self) -> None:
        self._record.result["hardware"]["thread_changes"] = self._changes
