"""Around every request: its limits, its time, its token, its headers and its metrics (ASGI)."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.batching import CLIENT
from serving.api.settings import Settings
from serving.monitoring.drift import client_of
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
_PROBES = ("/healthz", "/readyz")  # of any name
_ADDRESS = re.compile(r"([0-9.]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?")
_METHODS = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"))
_LARGEST_AT_ONCE = 2  # bodies

bearer = HTTPBearer(auto_error=False, description="the token that the service was started with")
log = logging.getLogger(__name__)


class Guard:
    """Refuses what is too large, too slow or unknown, and measures everything.

    Args:
        app: the service.
        settings: its limits.
        telemetry: where requests are counted.
        model: what each answer says it came from.
        token: that requests must bear; None asks for none.
        bodies: the largest body, in bytes, of each path that takes one.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        telemetry: Telemetry,
        *,
        model: str,
        token: str | None,
        bodies: Mapping[str, int],
    ) -> None:
        self._app = app
        self._hosts = list(settings.hosts) or ["*"]
        self._seconds = settings.timeout
        self._telemetry = telemetry
        self._headers = (*HEADERS, (b"x-model", model.encode()))
        self._token = token.encode() if token is not None else None
        self._bodies = bodies
        self._most = settings.max_bytes  # of what nobody reads
        self._open: set[_Exchange] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        exchange = _Exchange(self, receive, send, self._bodies.get(scope["path"], self._most))
        exchange.owner = client_of(scope["client"][0]) if scope.get("client") else ""
        CLIENT.set(exchange.owner)
        exchange.without_body = method == "HEAD"
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        started = time.perf_counter()
        self._open.add(exchange)
        try:
            await self._answer(scope, exchange)
        finally:
            self._open.discard(exchange)
            route = getattr(scope.get("route"), "path", "other")
            self._telemetry.seconds.labels(route).observe(time.perf_counter() - started)
            self._telemetry.requests.labels(route, method, exchange.status).inc()

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        # First, since of what is refused below the rest is read.
        if b"transfer-encoding" in headers:
            await exchange.refuse(
                411, "a request must say how long its body is, in the header Content-Length"
            )
            return
        if not length.isdigit() or int(length[:20]) > exchange.max_bytes:
            await exchange.refuse(413, _too_large(exchange.max_bytes))
            return
        if scope["path"].startswith(_PROTECTED) and not await self._may(Request(scope)):
            challenge = [(b"www-authenticate", b"Bearer")]
            await exchange.refuse(401, "a bearer token is needed for this", challenge)
            return
        if not await self._is_named(scope):
            await exchange.refuse(
                400,
                "the header Host must be a name of this service; the option --hosts tells it its "
                "names",
            )
            return
        try:
            async with asyncio.timeout(self._seconds) as exchange.limit:
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if exchange.is_ended:
                why = "too many large requests at once; try again in 1 s"
                await exchange.refuse(503, why, [(b"retry-after", b"1")])
                return
            status, who = (504, "the answer") if exchange.received else (408, "the request")
            await exchange.refuse(status, f"{who} took more than {self._seconds:g} s")
        except Exception:  # the outermost: whatever it is, it is logged whole and answered
            log.exception("%s %.200r failed", scope["method"], scope["path"])
            await exchange.refuse(500, "the server failed; its log says why")

    async def _is_named(self, scope: Scope) -> bool:
        """Whether the request calls the service by a name that it has.

        Prometheus comes by address; a page from elsewhere, whose name was made to lead here, comes
        by that name.
        """
        host = Headers(scope=scope).get("host", "")
        by_address = scope["path"] == "/metrics" and _ADDRESS.fullmatch(host)
        if by_address or scope["path"] in _PROBES:
            return True
        is_named = False

        async def named(*_: object) -> None:
            nonlocal is_named
            is_named = True

        async def unsaid(message: Message) -> None:
            """The middleware's refusal, which does not say what to do."""

        middleware = TrustedHostMiddleware(named, self._hosts, www_redirect=False)
        await middleware(scope, _nothing, unsaid)
        return is_named

    async def _may(self, request: Request) -> bool:
        if self._token is None:
            return True
        borne = await bearer(request)
        return borne is not None and hmac.compare_digest(
            borne.credentials.encode("latin-1", "replace"), self._token
        )

    def make_room(self) -> None:
        """End bodies of the client that has most bytes here, until the others have room.

        First the one that takes most bytes for longest. So those that come with small bodies are
        answered, whatever others hold.
        """
        now = asyncio.get_running_loop().time()
        held = [exchange for exchange in self._open if not exchange.is_ended]
        of_owner = Counter[str]()
        for exchange in held:
            of_owner[exchange.owner] += exchange.held
        while of_owner.total() > _LARGEST_AT_ONCE * self._most:
            own, _ = of_owner.most_common(1)[0]
            most = max(
                (each for each in held if each.owner == own),
                key=lambda each: each.held * (now - each.began),
            )
            held.remove(most)
            of_owner[own] -= most.held
            most.end(now)

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Of every answer."""
        return self._headers


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _too_large(max_bytes: int) -> str:
    return f"a request must have at most {max_bytes} bytes"


class _Exchange:
    """A request whose bytes are counted, and an answer that gets the headers.

    Attributes:
        status: of the answer, "499" while there is none.
        received: whether the request's body has come, whole.
        owner: whose it is.
        held: bytes of it that came.
        began: when, as the event loop has it.
        limit: of its time, once it has begun to be answered.
        is_ended: whether it has to make room for others.
        without_body: whether the answer must have none.
    """

    def __init__(self, guard: Guard, receive: Receive, send: Send, max_bytes: int) -> None:
        self._guard = guard
        self._receive = receive
        self._send = send
        self.max_bytes = max_bytes
        self.status = "499"
        self.received = False
        self.owner = ""
        self.held = 0
        self.began = asyncio.get_running_loop().time()
        self.limit: asyncio.Timeout | None = None
        self.is_ended = False
        self.without_body = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.held += len(message.get("body", b""))
        self._guard.make_room()
        self.received = self.received or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            headers = [*message.get("headers", ()), *self._guard.headers]
            message = {**message, "headers": headers}
        elif self.without_body:
            message = {**message, "body": b""}
        await self._send(message)

    def end(self, now: float) -> None:
        """Take what is left of its time, unless its answer is under way."""
        self.is_ended = True
        if self.status == "499" and self.limit is not None and not self.limit.expired():
            self.limit.reschedule(now)

    async def refuse(
        self, status: int, why: str, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with JSON, unless an answer has begun."""
        if self.status != "499":
            return
        body = json.dumps({"detail": why}).encode()
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status in (408, 411, 413, 503):
            own.append((b"connection", b"close"))  # the rest of the body is not read
        await self.send(
            {"type": "http.response.start", "status": status, "headers": [*own, *headers]}
        )
        await self.send({"type": "http.response.body", "body": body})
