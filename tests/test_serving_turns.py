"""Clients take turns with their photos: nobody waits for all that another one sent before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Container

import pytest

from serving.api import uploads
from serving.api.batching import CLIENT, QueueFullError


@pytest.mark.parametrize(
    ("took", "client", "refused"),
    [(2.0, "one", None), (3.0, "one", 9), (4.0, "other", None), (6.0, "other", 6)],
)
def test_a_photo_that_would_wait_too_long_is_told_so_at_once(
    took: float, client: str, refused: int | None
) -> None:
    """With one decoded and two that wait, all of one client: another's waits for the first."""
    assert asyncio.run(_told(took, client)) == refused


async def _told(took: float, client: str) -> int | None:
    lane = uploads._Lane(["--nothing"], 10, processes=1, waiting=8, seconds=10)
    found: list[int | None] = []
    over = threading.Event()

    def read() -> bytes:
        over.wait()
        return b"1" * 11

    async def ask(client: str) -> None:
        CLIENT.set(client)
        try:
            await lane(read)
            found.append(None)
        except QueueFullError as error:
            found.append(error.retry_after)

    lane.took = 0
    waiting = [asyncio.create_task(ask("one")) for _ in range(3)]
    await asyncio.sleep(0)
    lane.took = took
    last = asyncio.create_task(ask(client))
    await asyncio.sleep(0)
    over.set()
    await asyncio.gather(last, *waiting)
    return max(found, key=lambda one: one or 0)


def test_clients_take_turns() -> None:
    assert asyncio.run(_turns("aaaabbcc")) == "abcabcaa"
    assert asyncio.run(_turns("aaab", leave={1, 3})) == "aa", "who leaves, waits no more"


async def _turns(clients: str, leave: Container[int] = ()) -> str:
    """In which order clients are worked on that come one after another, one at a time."""
    turns, order = uploads._Turns(1), ""
    begin = asyncio.Event()

    async def work(client: str) -> None:
        nonlocal order
        CLIENT.set(client)
        async with turns.taken():
            order += client
            await begin.wait()

    tasks = [asyncio.create_task(work(client)) for client in clients]
    await asyncio.sleep(0)
    begin.set()
    for number, task in enumerate(tasks):
        if number in leave:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns.before("d") == 0
    return order


def test_who_leaves_when_its_turn_comes_passes_it_on() -> None:
    asyncio.run(_passed_on())


async def _passed_on() -> None:
    turns = uploads._Turns(1)

    async def work() -> None:
        async with turns.taken():
            pass

    async with turns.taken():
        leaving, other = asyncio.create_task(work()), asyncio.create_task(work())
        await asyncio.sleep(0)
    leaving.cancel()  # which has its turn by now
    await other
    assert turns.before("") == 0
