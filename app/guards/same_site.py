"""Refuses what another site's page sends in the user's name. Browsers say where a request comes from; programs say nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import as_json, problem_of

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameSite:
    """ASGI middleware: a request that changes something must come from our own pages, or from no page.

    `public_url` is our own address where a proxy stands before us and does not pass on the name that it was called by.
    """

    def __init__(self, app: ASGIApp, public_url: str = "") -> None:
        self.app = app
        self._public = urlsplit(public_url).netloc.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if not self._is_ours(origin, headers.get("host"), headers.get("sec-fetch-site")):
                problem = problem_of(
                    403, f"Requests from {(origin or 'another site')[:200]} are refused.", advice="Use the studio's own pages."
                )
                await as_json(problem)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_ours(self, origin: str | None, host: str | None, site: str | None) -> bool:
        if site in ("cross-site", "same-site"):
            return False
        return origin is None or urlsplit(origin).netloc.lower() in {(host or "").lower(), self._public} - {""}
