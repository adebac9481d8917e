"""Headers of every answer: what a browser may do with it."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Pages run our own scripts and styles and nothing else; text that slipped through as markup would still do nothing."""
YEAR_SECONDS = 31_536_000
FOR_EVER = f"public, max-age={YEAR_SECONDS}, immutable"


class SecurityHeaders:
    """ASGI middleware. What an answer says by itself stays.

    `private`: answers are for whoever signed in. Pages are kept nowhere, so that the back button shows nothing
    once they have signed out; data may be kept by their browser alone, and asked about again each time.
    """

    def __init__(self, app: ASGIApp, *, private: bool, https: bool) -> None:
        self.app = app
        self._private = private
        self._always = SECURITY | ({"Strict-Transport-Security": f"max-age={YEAR_SECONDS}"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        static = scope["path"].startswith("/static/")

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._always.items():
                    headers.setdefault(name, value)
                if static:  # an address with a version means one content; modules name each other without: ask about those each time
                    versioned = b"v=" in scope["query_string"] and message["status"] < 400
                    headers.setdefault("Cache-Control", FOR_EVER if versioned else "no-cache")
                elif self._private:
                    page = headers.get("content-type", "").startswith("text/html") or message["status"] in (301, 302, 303, 307)
                    headers.setdefault("Cache-Control", "no-store" if page else "private, no-cache")
            await send(message)

        await self.app(scope, receive, dressed)
