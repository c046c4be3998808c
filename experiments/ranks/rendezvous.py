"""How the processes of a trial find each other, and how they are connected."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from experiments.errors import Interrupted, PassingError
from experiments.machine.waits import scaled
from experiments.ranks.environment import Place
from models.ranks.group import answered

START_SECONDS = 300.0
"""For so long the processes wait for each other at the start."""
COLLECTIVE_SECONDS = 1800.0
"""For so long the others wait for rank 0, alive, to write and report between two steps."""


class LostProcessError(Interrupted, PassingError):
    """A process of the trial is gone; the trial can be continued."""


def rendezvous(place: Place, *, descriptor: int | None = None) -> Store:
    """Connect to the store that all processes of the trial share.

    Args:
        place: of this process.
        descriptor: a socket's that listens on the port already, for rank 0 to use; None to open
            one.
    """
    store = TCPStore(
        place.host,
        place.port,
        is_master=place.rank == 0 and not place.hosted,
        timeout=timedelta(seconds=scaled(START_SECONDS)),
        wait_for_workers=False,
        master_listen_fd=descriptor,
    )
    return PrefixStore(f"vaesweep/{place.attempt}", store)


def connect(store: Store, rank: int, world: int, device: str) -> None:
    """Let the processes compute together: over NCCL on GPUs, over Gloo elsewhere."""
    is_gpu = device.startswith("cuda")
    if is_gpu:
        torch.cuda.set_device(device)
    with answered():
        distributed.init_process_group(
            "nccl" if is_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=scaled(COLLECTIVE_SECONDS)),
        )


def disconnect(*, in_order: bool) -> None:
    """End what `connect` began; if not all processes do so now, without waiting for them."""
    if not distributed.is_initialized():
        return
    if in_order or distributed.get_backend() == "gloo":
        distributed.destroy_process_group()
    else:
        distributed.distributed_c10d._abort_process_group()


def packed(message: Mapping[str, Any]) -> bytes:
    """Turn plain values and tensors into bytes, which `unpacked` reads without running code."""
    buffer = io.BytesIO()
    torch.save(dict(message), buffer)
    return buffer.getvalue()


def unpacked(message: bytes) -> dict[str, Any]:
    """Return what `packed` was given."""
    values: dict[str, Any] = torch.load(io.BytesIO(message), weights_only=True)
    return values
