"""Which requests need what, by method and path alone: a route that nobody thought of needs the most that its method says."""

from __future__ import annotations

import re
from typing import Literal

from app.guards.same_site import SAFE_METHODS

Need = Literal["nothing", "read", "own", "write", "admin"]
"""``own``: what is one's own and harms nobody else, such as one's password; a viewer may, a token that only reads may not."""

PUBLIC = ("/static", "/login", "/links", "/api/v1/health")
OWN = ("/logout", "/settings", "/api/v1/me", "/api/v1/tokens")
NOT_OWN = ("/settings/webhooks",)
"""One's own too, and yet it sends what everybody does elsewhere: the same as under REST."""
ADMIN = ("/settings/people", "/settings/audit", "/settings/studio", "/api/v1/people", "/api/v1/invitations", "/api/v1/audit")
ADMIN_VERBS = ("move",)
"""They change what others get: the queue's order."""
HARMLESS = ("/experiments/form", "/experiments/validate", "/sweeps/check", "/api/v1/experiments:estimate")
"""They are sent while somebody types, and change nothing: not written down."""

_CHECK = re.compile(r"(?:/api/v1)?/uploads/\d+[:/]check", re.ASCII)
_THING = re.compile(r"(?:/api/v1)?/(?!api/)(?P<noun>\w+)/(?P<id>[^/:]+)(?:[:/](?P<verb>[\w-]*)(?:[:/].*)?)?", re.ASCII | re.DOTALL)
_ID = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z-]*", re.ASCII)
_COPIES = frozenset({"clone", "keep"})
"""Verbs that read a thing and make another, which is one's own."""


def need_of(method: str, path: str) -> Need:
    """What a request needs of whoever sends it."""
    if _within(path, PUBLIC):
        return "nothing"
    if _within(path, ADMIN):
        return "admin"
    if method in SAFE_METHODS:
        return "read"
    match = _THING.fullmatch(path)
    if match is not None and match["verb"] in ADMIN_VERBS:
        return "admin"
    return "own" if _within(path, OWN) and not _within(path, NOT_OWN) else "write"


def changed(method: str, path: str) -> tuple[str, int | None] | None:
    """The thing that a request would change, as in (``runs``, 3). If it has an owner, only they and admins may.

    The number is None where it is written in a way that a route might still read as one: ``+3``, ``3.0``, ``003``.
    """
    match = _THING.fullmatch(path)
    if match is None or method in SAFE_METHODS or match["verb"] in _COPIES or _WORD.fullmatch(match["id"]):
        return None
    return match["noun"], int(match["id"]) if _ID.fullmatch(match["id"]) else None


def is_harmless(path: str) -> bool:
    """Whether an unsafe method changes nothing here."""
    return path in HARMLESS or _CHECK.fullmatch(path) is not None


def action_of(method: str, route: str | None, path: str) -> tuple[str, str]:
    """What a request does and to what, in words for the audit log: (``run.stop``, ``run 3``).

    `route` is the path with its parameters unfilled, ``/runs/{run_id}:stop``; nouns are plural in it, verbs stand at its end.
    None: it was not routed; then it is guessed.
    """
    if route is None:
        route = re.sub(r"(?<=/)\d+(?=[/:]|$)", "{id}", re.sub(r"(?<=/people/)[^/:]+", "{name}", path))
    route = re.sub(r"\{(\w+):\w+\}", r"{\1}", route).removeprefix("/api/v1").removeprefix("/settings")
    parts = [part for part in re.split(r"[/:]", route) if part]
    filled = [part for part in re.split(r"[/:]", path.removeprefix("/api/v1").removeprefix("/settings")) if part]
    nouns = [(index, part) for index, part in enumerate(parts) if index + 1 < len(parts) and parts[index + 1].startswith("{")]
    last = parts[-1] if parts else ""
    if (method, route) == ("POST", "/people"):
        return "person.invite", ""
    if nouns and len(filled) == len(parts):
        index, noun = nouns[-1]
        thing = f"{_singular(noun)} {filled[index + 1]}"
        if index + 2 == len(parts):
            return f"{_singular(noun)}.{_VERBS.get(method, method.lower())}", thing
        if last.endswith("s") and method == "POST":
            return f"{_singular(last)}.create", thing
        return f"{_singular(noun)}.{last}", thing
    if last.endswith("s") and method == "POST":
        return f"{_singular(last)}.create", ""
    return ".".join(_singular(part) for part in parts) or method.lower(), ""


_VERBS = {"PATCH": "change", "PUT": "change", "DELETE": "delete", "POST": "create"}


def _singular(noun: str) -> str:
    return {"people": "person", "queries": "query"}.get(noun, noun.removesuffix("s"))


def _within(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") or path.startswith(f"{prefix}:") for prefix in prefixes)
