"""What the environment says of ranks: those of one trial that a launcher started, or leftovers.

`srun`, `torchrun` and Kubernetes' PyTorchJob number the processes that they start. Lightning takes
such a number for one of its own training: all ranks but 0 would write no checkpoint and no metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""What libraries read; submitit needs SLURM's own variables to find its jobs' files."""
_SLURM_PORTS = 15000, 10000  # the first, and how many


@dataclass(frozen=True)
class Place:
    """The place of this process among those of one trial.

    Attributes:
        rank: from 0.
        world: how many processes there are.
        local_rank: the same, of those on this machine.
        host: where the rendezvous is.
        port: of the rendezvous.
        launcher: what started the processes.
        hosted: whether the launcher hosts the rendezvous; else rank 0 does.
        attempt: the launcher's number of it, which may start the processes again.
    """

    rank: int
    world: int
    local_rank: int
    host: str
    port: int
    launcher: str
    hosted: bool = False
    attempt: str = "0"


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Find the place that a launcher gave to this process; None where it is alone."""
    return _by_torchrun(environment) or _by_srun(environment)


def _by_torchrun(environment: Mapping[str, str]) -> Place | None:
    named = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(environment.get(name) for name in named) or int(environment["WORLD_SIZE"]) < 2:
        return None
    return Place(
        rank=int(environment["RANK"]),
        world=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", 0)),
        host=environment["MASTER_ADDR"],
        port=int(environment["MASTER_PORT"]),
        launcher="torchrun",
        hosted=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def _by_srun(environment: Mapping[str, str]) -> Place | None:
    # Of the step: a batch script has the numbers of its job, though it is one process.
    named = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST")
    if not all(environment.get(name) for name in named):
        return None
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    if world < 2:
        return None
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    first, count = _SLURM_PORTS
    job, step = (environment.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID"))
    return Place(
        rank=int(environment["SLURM_PROCID"]),
        world=world,
        local_rank=int(environment.get("SLURM_LOCALID", 0)),
        host=SLURMEnvironment.resolve_root_node_address(environment["SLURM_STEP_NODELIST"]),
        port=int(environment.get("MASTER_PORT", first + (int(job) + int(step)) % count)),
        launcher="srun",
    )


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
