"""Watches every request: gives it an id that its log lines and its answer carry, and measures it."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.metrics import REQUESTS, VIEWERS
from app.telemetry.structured_logs import log_context

logger = logging.getLogger("app.requests")

HEADER = "X-Request-ID"
_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
STREAM = "text/event-stream"
PREFIX = "/api/v1"
"""A router's route does not know where its router was put."""


class Observe:
    """ASGI middleware. A request's own `X-Request-ID` is kept where it is a short plain word, and replaced otherwise."""

    def __init__(self, app: ASGIApp, *, log_requests: bool = False) -> None:
        self.app = app
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        identity = given if _ID.fullmatch(given) else uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = identity
        status, streams, began = 500, False, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = identity
                streams = headers.get("content-type", "").startswith(STREAM)
                if streams:
                    VIEWERS.inc()
            await send(message)

        with log_context(request_id=identity):
            try:
                await self.app(scope, receive, answer)
            finally:
                seconds = time.perf_counter() - began
                if streams:
                    VIEWERS.dec()
                else:
                    REQUESTS.labels(scope["method"] if scope["method"] in _METHODS else "other", _template(scope), str(status)).observe(
                        seconds
                    )
                if self._log_requests:
                    run = scope.get("path_params", {}).get("run_id")
                    with log_context(**({} if run is None else {"run_id": run})):
                        logger.info("%s %s %s in %.0f ms", scope["method"], scope["path"], status, 1000 * seconds)


def _template(scope: Scope) -> str:
    """The route's path with its parameters unfilled, so that series stay few whatever is asked for."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return "/static" if scope["path"].startswith("/static/") else "none"
    return PREFIX + path if scope["path"].startswith(PREFIX) and not path.startswith(PREFIX) else path


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
