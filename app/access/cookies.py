"""The cookie that a browser is known by: its name, and how it is set and taken back."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.settings import Settings

VISIT = "visit"
"""Of a browser that has not signed in yet: forms are tied to it."""
SESSION = "session"
DAY_SECONDS = 86_400


def read(request: HTTPConnection, settings: Settings, kind: str) -> str | None:
    """The mark in the cookie of this kind."""
    return request.cookies.get(_name(request, settings, kind)) or None


def put(response: Response, request: HTTPConnection, settings: Settings, kind: str, mark: str) -> None:
    """Give the browser a mark: no script sees it, no other site's form brings it, and over https nothing else."""
    lasts = int(settings.session_days * DAY_SECONDS) if kind == SESSION else DAY_SECONDS
    name, secure = _name(request, settings, kind), is_https(request, settings)
    response.set_cookie(name, mark, max_age=lasts, path="/", secure=secure, httponly=True, samesite="lax")


def take(response: Response, request: HTTPConnection, settings: Settings, kind: str) -> None:
    """Take the mark back."""
    response.delete_cookie(_name(request, settings, kind), path="/", secure=is_https(request, settings), httponly=True, samesite="lax")


def is_https(request: HTTPConnection, settings: Settings) -> bool:
    """Whether the browser speaks https, to us or to the proxy before us."""
    return settings.public_url.startswith("https://") or request.url.scheme == "https"


def _name(request: HTTPConnection, settings: Settings, kind: str) -> str:
    """``__Host-`` binds a cookie to this very host; over http browsers refuse it, and all ports of a host share what they keep."""
    return f"__Host-opcod-{kind}" if is_https(request, settings) else f"opcod-{kind}-{request.url.port or 80}"
