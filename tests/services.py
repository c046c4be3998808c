"""A real service in a process of its own, on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]


@dataclass
class Service:
    """A running `python -m serving.app`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, **options)

    def metric(self, name: str) -> float:
        """The value of the metric whose line begins with `name `."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])

    def end(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(PATIENCE)


@contextmanager
def run_service(
    checkpoint: Path, directory: Path, *options: str, **environment: str
) -> Iterator[Service]:
    """Start a service and stop it."""
    command = [sys.executable, "-m", "serving.app", "--checkpoint", str(checkpoint)]
    command += ["--port", "0", "--threads", "1", "--timeout", str(PATIENCE), *options]
    with running(command, directory, environment) as service:
        yield service


@contextmanager
def running(
    command: list[str], directory: Path, environment: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[Service]:
    """Run the command of a service; its log, which names its address, goes to the directory."""
    log = directory / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    service = Service("", process, log)

    def ready() -> bool:
        told = re.search(r"page and API: (http://\S+)", log.read_text())
        if told is None:
            return False
        service.url = told[1]
        with suppress(httpx.TransportError), service.client() as client:
            return client.get("/readyz").status_code == 200
        return False

    try:
        wait_until(ready, process, log.read_text)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
        service.end()


def ask(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    """What a service answers that runs in this process."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(answer())
