"""A trial is one process, whatever ranks the environment names.

`srun`, `torchrun` and Kubernetes' PyTorchJob number the processes that they start, and Lightning
takes such a number for one of a distributed training: all ranks but 0 write no checkpoint and no
metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""What libraries read; submitit needs SLURM's own variables to find its jobs' files."""


@contextmanager
def ranks_hidden() -> Iterator[None]:
    """A context in which the environment names no rank: some libraries read it when imported."""
    hidden = {name: os.environ.pop(name) for name in _RANKS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def be_rank_zero() -> None:
    """Let Lightning and torchmetrics take this process for the one that writes and warns."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only
    from torchmetrics.utilities import prints

    rank_zero_only.rank = prints.rank_zero_only.rank = 0  # type: ignore[attr-defined]
