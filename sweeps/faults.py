"""What happens to a sweep in `sweeps.chaos`, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sweeps import bounds

SCALE = 0.1
"""Of all waits of the sweep."""
LEASE = SCALE * bounds.LEASE_TIMEOUT
_EARLY = 0.2  # of the faults do not wait for a worker

KINDS = {
    "kill a worker": 8,
    "stop a worker for a moment": 3,
    "stop a worker for longer than its lease": 4,
    "kill the command": 1,
    "kill all": 1,
    "interrupt the command": 1,
    "interrupt the command twice": 1,
    "stop the command": 1,
    "stop all": 1,
    "give the command a second time": 1,
}
"""Faults, and how often each is drawn."""
RESTART = "restart the server"


@dataclass(frozen=True)
class Fault:
    """What happens to a sweep.

    Attributes:
        kind: one of `KINDS`, or `RESTART`.
        pause: seconds before; most count only from when a worker lives, so that faults meet
            trainings, and not only commands that begin.
        is_early: whether it counts from the last fault.
        seconds: for which what is stopped stays so.
        choice: in [0, 1), of one of several processes.
    """

    kind: str
    pause: float
    is_early: bool
    seconds: float
    choice: float


def drawn(count: int, seed: int, *, restarts: bool = False) -> list[Fault]:
    """So many faults of a seed, and two restarts of the server among them."""
    draw = random.Random(seed)
    kinds = draw.choices(list(KINDS), list(KINDS.values()), k=count)
    if restarts:
        for position in draw.sample(range(count), min(2, count)):
            kinds[position] = RESTART
    return [
        Fault(
            kind,
            pause=draw.uniform(0.3, 5),
            is_early=draw.random() < _EARLY,
            seconds=_seconds(kind, draw),
            choice=draw.random(),
        )
        for kind in kinds
    ]


def _seconds(kind: str, draw: random.Random) -> float:
    is_short = kind == "stop a worker for a moment" or draw.random() < 0.5
    longer = kind == "stop a worker for longer than its lease" or not is_short
    return LEASE * (draw.uniform(1.3, 2) if longer else draw.uniform(0.1, 0.7))
