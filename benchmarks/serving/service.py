"""A service in a process of its own, and clients that send it requests."""

from __future__ import annotations

import http.client
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT

_START_SECONDS = 180
_BOUNDARY = "photograph"


@dataclass(frozen=True)
class Ask:
    """A request: JSON, or the bytes of a photo."""

    name: str
    path: str
    content: dict[str, Any] | bytes

    @property
    def kind(self) -> str:
        """Of the content."""
        if isinstance(self.content, bytes):
            return f"multipart/form-data; boundary={_BOUNDARY}"
        return "application/json"

    @property
    def body(self) -> bytes:
        """As it is sent."""
        if not isinstance(self.content, bytes):
            return json.dumps(self.content).encode()
        name = b'Content-Disposition: form-data; name="photos"; filename="photo.jpg"'
        edge = _BOUNDARY.encode()
        return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (edge, name, self.content, edge)


@dataclass
class Load:
    """What clients saw.

    Attributes:
        name: of what they asked for.
        seconds: of each request.
        wall: from the first request to the last answer.
        errors: a line for each answer that is none.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of the requests were answered."""
        return sorted(self.seconds)[math.ceil(percent / 100 * len(self.seconds)) - 1]


class Connection:
    """One client's, kept open."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, ask: Ask) -> int:
        """The status of the whole answer."""
        self._http.request("POST", ask.path, ask.body, {"Content-Type": ask.kind})
        answer = self._http.getresponse()
        answer.read()
        return answer.status

    def get(self, path: str) -> str:
        """An answer as text; empty if it is a refusal."""
        self._http.request("GET", path)
        answer = self._http.getresponse()
        text = answer.read().decode()
        return text if answer.status == 200 else ""

    def close(self) -> None:
        """Hang up."""
        self._http.close()


@dataclass(frozen=True)
class Service:
    """A running `python -m serving.app`."""

    port: int

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Of one client."""
        opened = Connection(self.port)
        try:
            yield opened
        finally:
            opened.close()

    def resident_mebibytes(self) -> float:
        """Its memory, as its own metrics say."""
        with self.connection() as connection:
            lines = connection.get("/metrics").splitlines()
        name = "process_resident_memory_bytes "
        return float(next(line for line in lines if line.startswith(name)).split()[1]) / 2**20


@contextmanager
def run_service(options: Sequence[str], directory: str) -> Iterator[Service]:
    """Start a service, wait until it is ready, and end it.

    Raises:
        RuntimeError: it does not start; the message has the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        service = Service(int(free.getsockname()[1]))
    log = Path(directory) / f"service-{service.port}.log"
    command = [sys.executable, "-m", "serving.app", *options, "--port", str(service.port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        _wait(service, process, log)
        yield service
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _wait(service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), service.connection() as connection:
            if connection.get("/readyz"):
                return
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start: {log.read_text()[-2000:]}")


def load(service: Service, asks: Sequence[Ask], clients: int, requests: int) -> Load:
    """So many requests by so many clients at once, each with its own connection; asks in turn."""
    found, number = Load(" and ".join(ask.name for ask in asks)), count()
    began = threading.Barrier(clients + 1)

    def work() -> None:
        with service.connection() as connection:
            began.wait()
            while (own := next(number)) < requests:
                started = time.perf_counter()
                status = connection.send(asks[own % len(asks)])
                found.seconds.append(time.perf_counter() - started)
                if status != 200:
                    found.errors.append(f"answered {status}")

    threads = [threading.Thread(target=_noting(work, found)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    began.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    found.wall = time.perf_counter() - started
    return found


def _noting(work: Any, found: Load) -> Any:
    def noting() -> None:
        try:
            work()
        except (OSError, http.client.HTTPException) as error:
            found.errors.append(repr(error))

    return noting
