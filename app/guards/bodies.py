"""Bodies of requests: no larger than their route needs, whether or not they say so first, and not for ever on their way."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, as_json, problem_of
from app.settings import Settings

MEGABYTE = 1024**2
SMALL = 64 * 1024
SMALL_ROUTES = ("/login", "/logout", "/links/", "/settings", "/api/v1/tokens", "/api/v1/people")
"""Nobody has signed in yet, or a few words are all there is to say."""
UPLOAD_ROUTES = ("/uploads", "/api/v1/uploads", "/uploads/students", "/api/v1/uploads/students")


class BodyRefused(HTTPException):
    """Met while the body was read."""


class BodyLimits:
    """ASGI middleware. Refuses at once what announces too much, and cuts off what turns out to be too much or stalls."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._most = int(settings.body_megabytes * MEGABYTE)
        self._upload = int(settings.upload_megabytes * MEGABYTE)
        self._patience = settings.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._limit(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            await as_json(_too_large(most))(scope, receive, send)
            return
        seen, whole = 0, False

        async def bounded() -> Message:
            nonlocal seen, whole
            if whole:
                return await receive()
            try:
                with anyio.fail_after(self._patience):
                    message = await receive()
            except TimeoutError:
                raise BodyRefused(408, f"The body paused for more than {self._patience:g} s.") from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if seen > most:
                    raise BodyRefused(413, _too_large(most).detail)
            return message

        try:
            await self.app(scope, bounded, send)
        except BodyRefused as refused:  # while a guard further in read it; routes answer it themselves
            await as_json(problem_of(refused.status_code, refused.detail))(scope, receive, send)

    def _limit(self, path: str) -> int:
        if path in UPLOAD_ROUTES:
            return self._upload
        return min(SMALL, self._most) if path.startswith(SMALL_ROUTES) else self._most


def _too_large(most: int) -> Problem:
    return problem_of(413, f"The body is larger than {most / MEGABYTE:.4g} MiB.", advice="Send less at once.")
