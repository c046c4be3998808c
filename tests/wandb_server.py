"""A stand-in for the W&B server on loopback: as much of it as the real client and tools ask for.

It answers the GraphQL operations, file streams and uploads of wandb 0.31 and keeps what it was
given. An operation that it does not know is an error to the client and to the test (`unknown`).
It can be stopped and started again on the same port, without forgetting anything.
"""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.servers import free_port
from tests.waiting import PATIENCE
from tests.wandb_answers import Answers
from tests.wandb_state import ENTITY, Json, Run, Sweep

__all__ = ["ENTITY", "KEY", "Run", "Sweep", "WandbServer", "run_wandb_server"]

KEY = "k" * 40
"""The only key that the server takes."""


class WandbServer(Answers):
    """The server. Everything it was given is in its attributes.

    Attributes:
        environment: what a client needs to find it.
        refuse: a status with which everything is answered, or None.
        changed: notified whenever something was received.
    """

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": self.url}
        self.refuse: int | None = None
        self.changed = threading.Condition(threading.RLock())
        self._server: _HTTPServer | None = None

    def start(self) -> None:
        """Listen."""
        assert self._server is None
        self._server = _HTTPServer(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._server = None

    def wait_for(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until what the server has been given fulfils a condition."""
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "the client never got so far"

    def stop_run(self, run_id: str) -> None:
        """Let the agent of a run be told to stop it."""
        with self.changed:
            self._stopping.add(run_id)

    def press_stop(self, run: Run) -> None:
        """Let the client of a run be told that it was stopped, as the page's button does."""
        with self.changed:
            run.stopped = True


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or `stop`; mistakes of the stand-in are in `unknown`."""


def _handler(server: WandbServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = json.loads(self._body())
            if server.refuse is not None:
                self._answer(server.refuse, {"errors": [{"message": "no!"}]})
            elif self.path == "/graphql" and not self._has_key():
                self._answer(401, {"errors": [{"message": "invalid API key"}]})
            else:
                with server.changed:
                    self._answer(*self._post(sent))
                    server.changed.notify_all()

        def do_PUT(self) -> None:
            content = self._body()
            if server.refuse is not None:
                self._answer(server.refuse, {})
                return
            _, _, kind, owner, name = unquote(urlsplit(self.path).path).split("/", 4)
            with server.changed:
                server.upload(kind, owner, name, content)
                server.changed.notify_all()
            self._answer(200, {})

        def do_GET(self) -> None:
            server.unknown.append(f"GET {self.path}")
            self._answer(404, {})

        def _post(self, sent: Json) -> tuple[int, Json]:
            streamed = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            try:
                if streamed:
                    return 200, server.stream(streamed[1], sent)
                if self.path != "/graphql":
                    raise LookupError(f"the stand-in does not know {self.path}")
                found = re.search(r"\b(?:query|mutation)\s+(\w+)", sent["query"])
                assert found
                return 200, {"data": server.graphql(found[1], sent.get("variables") or {})}
            except Exception as error:  # noqa: BLE001  # the test must hear of it
                server.unknown.append(f"{self.path}: {error!r}")
                return 400, {"errors": [{"message": repr(error)}]}

        def _has_key(self) -> bool:
            basic = self.headers.get("Authorization", "").removeprefix("Basic ")
            return base64.b64decode(basic).decode() == f"api:{KEY}"

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _answer(self, status: int, content: Json) -> None:
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def run_wandb_server() -> Iterator[WandbServer]:
    """A running server; at the end, nothing must have been asked that it does not know."""
    server = WandbServer()
    server.start()
    try:
        yield server
    finally:
        if server._server is not None:
            server.stop()
    assert server.unknown == []
