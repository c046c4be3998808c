"""Sends the hostile requests to a service: `python -m tests.hostile.attack PORT`."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from tests.hostile.requests import Hostile, requests

LIMIT_SECONDS = 10
"""Of a request, as the service has it."""
SILENCE_SECONDS = 15
"""After which it hangs up on who says nothing."""
SLACK_SECONDS = 60
"""That a busy machine may add."""
AT_ONCE = 24
"""Hostile clients."""


@dataclass
class Outcome:
    """Of a hostile request: its status, None where there was no answer, and its seconds."""

    request: Hostile
    status: int | None
    seconds: float


async def attack(request: Hostile, port: int) -> Outcome:
    """Send a request as its client would, and take what comes."""
    began = time.monotonic()
    status = None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):
            for piece in request.pieces:
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), LIMIT_SECONDS + SLACK_SECONDS)
                if len(request.pieces) > 1:
                    await asyncio.sleep(0.01)
            if request.then == "ignore":
                await asyncio.sleep(1)
            elif request.then != "leave":
                status = await _status(reader)
    except (TimeoutError, asyncio.LimitOverrunError):
        return Outcome(request, None, float("inf"))
    finally:
        writer.transport.abort()
    return Outcome(request, status, time.monotonic() - began)


async def _status(reader: asyncio.StreamReader) -> int | None:
    most = LIMIT_SECONDS + SILENCE_SECONDS + SLACK_SECONDS
    line = await asyncio.wait_for(reader.readline(), most)
    told = re.match(rb"HTTP/1\.1 (\d{3}) ", line)
    return int(told[1]) if told else None


async def attack_all(requests: list[Hostile], port: int) -> list[Outcome]:
    """All of them, some at a time; those that only hold a connection hold it beside the others."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(request: Hostile) -> Outcome:
        if request.then == "wait":
            return await attack(request, port)
        async with turn:
            return await attack(request, port)

    return await asyncio.gather(*map(one, requests))


if __name__ == "__main__":
    found = asyncio.run(attack_all(list(requests(seed=17)), int(sys.argv[1])))
    print(*sorted(Counter(str(outcome.status) for outcome in found).items()))
