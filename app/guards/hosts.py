"""Answers only to its own names, so that a stranger's name which was made to point here (DNS rebinding) finds nobody."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import as_json, problem_of
from app.settings import Settings


class KnownHosts:
    """ASGI middleware. Names: localhost, this machine's own, the one it is bound to, `public_url`'s and `allowed_hosts`.

    A bare IP address passes: nobody's name can be made to point at it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        public = urlsplit(settings.public_url).hostname or ""
        names = ("localhost", socket.gethostname(), settings.host, public, *settings.allowed_hosts)
        self._names = frozenset(name.lower().rstrip(".") for name in names if name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_ours(Headers(scope=scope).getlist("host")):
            advice = "Use the address that the studio was started with; other names of it belong into OPCOD_ALLOWED_HOSTS."
            await as_json(problem_of(400, "The studio does not go by this name.", advice=advice))(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_ours(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        try:
            host = urlsplit(f"//{given[0]}").hostname or ""
        except ValueError:
            return False
        host = host.rstrip(".")
        return host in self._names or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
