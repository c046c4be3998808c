"""Around every request: its limits, its time, its token, its headers and its metrics (ASGI)."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.settings import Settings
from serving.monitoring.telemetry import Telemetry

HEADERS = (
    (b"content-security-policy",
     b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
     b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)  # fmt: skip

_PROTECTED = ("/v1/", "/metrics")

log = logging.getLogger(__name__)


class Guard:
    """Refuses what is too large, too slow or unknown, and measures everything.

    Args:
        app: the service.
        settings: its limits.
        telemetry: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, telemetry: Telemetry) -> None:
        self._app = app
        self._settings = settings
        self._telemetry = telemetry
        self._token = settings.token.encode() if settings.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._settings.max_bytes)
        started = time.perf_counter()
        try:
            await self._answer(scope, exchange)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._telemetry.seconds.labels(route).observe(time.perf_counter() - started)
            self._telemetry.requests.labels(route, scope["method"], exchange.status).inc()

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        headers = dict(scope["headers"])
        if not self._may(scope["path"], headers.get(b"authorization", b"")):
            challenge = [(b"www-authenticate", b"Bearer")]
            await exchange.refuse(401, "a bearer token is needed for this", challenge)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.max_bytes:
            await exchange.refuse(413, _too_large(self._settings.max_bytes))
            return
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            status, who = (504, "the answer") if exchange.received else (408, "the request")
            await exchange.refuse(status, f"{who} took more than {self._settings.timeout:g} s")
        except Exception:  # the outermost: whatever it is, it is logged whole and answered
            log.exception("%s %s failed", scope["method"], scope["path"])
            await exchange.refuse(500, "the server failed; its log says why")

    def _may(self, path: str, authorization: bytes) -> bool:
        if self._token is None or not path.startswith(_PROTECTED):
            return True
        kind, _, token = authorization.partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and kind.lower() == b"bearer"


def _too_large(max_bytes: int) -> str:
    return f"a request must have at most {max_bytes} bytes"


class _Exchange:
    """A request whose bytes are counted, and an answer that gets the headers.

    Attributes:
        status: of the answer, "499" while there is none.
        received: whether the request's body has come, whole.
    """

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._left = self._max_bytes = max_bytes
        self.status = "499"
        self.received = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            # Of this kind, since FastAPI makes any other the client's broken body.
            raise HTTPException(413, _too_large(self._max_bytes), {"Connection": "close"})
        self.received = self.received or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await self._send(message)

    async def refuse(
        self, status: int, why: str, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with JSON, unless an answer has begun."""
        if self.status != "499":
            return
        body = json.dumps({"detail": why}).encode()
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status in (408, 413):
            own.append((b"connection", b"close"))  # the rest of the body is not read
        await self.send(
            {"type": "http.response.start", "status": status, "headers": [*own, *headers]}
        )
        await self.send({"type": "http.response.body", "body": body})
