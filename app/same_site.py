"""Refuses what another site's page sends in the user's name. Browsers say where a request comes from; programs say nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE, problem_of


class SameSite:
    """ASGI middleware: a request that changes something must come from our own pages, or from no page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != headers.get("host"):
                problem = problem_of(403, f"Requests from {origin[:200]} are refused.", advice="Use the studio's own pages.")
                response = JSONResponse(problem.model_dump(exclude_none=True), 403, media_type=MEDIA_TYPE)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)
