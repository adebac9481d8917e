"""The gate before every route: who asks, may they, does their own page ask, and what is written down of it.

It decides by method and path (`app.access.rules`), before routing, so that no route can be forgotten.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import anyio
from anyio import to_thread
from sqlalchemy import Engine, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import audit, cookies, rules, sessions, tokens
from app.access.marks import csrf_token, same
from app.access.person import LOCAL, Person
from app.api.problems import DATABASE_AWAY, database_gone, problem_of, respond
from app.db import reading, writing
from app.guards import roots, servers
from app.guards.same_site import SAFE_METHODS
from app.settings import Settings
from app.tables import metadata

logger = logging.getLogger(__name__)

CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
MOST_FIELDS = 10_000
FORWARDED = ("x-forwarded-for", "x-real-ip", "forwarded")
"""Headers in which proxies say for whom they ask."""
_LOOPBACK = re.compile(r"(?:for=)?\"?(?:127(?:\.\d{1,3}){3}|\[?::1\]?)(?::\d+)?\"?(?:;.*)?", re.IGNORECASE)
RECHECK_SECONDS = 30.0
"""How long a live stream goes on after its viewer was signed out elsewhere."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and the mark of the cookie that their forms are tied to, if it was that which said so."""

    person: Person | None
    mark: str | None = None


class Gate:
    """ASGI middleware. Leaves `person` (or None) and `csrf` in the request's state."""

    def __init__(self, app: ASGIApp, settings: Settings, engine: Engine) -> None:
        self.app = app
        self._settings, self._engine = settings, engine
        self._asks = settings.auth == "password"
        self._folders = roots.folders_of(settings)
        self._servers = servers.hosts_of(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response, receive, entry = await self._admit(request, receive)
        except DATABASE_AWAY as error:
            request.state.person, request.state.csrf = None, ""
            response, entry = database_gone(request, error), None
        if response is not None:
            await response(scope, receive, send)
            return
        await self._pass(request, receive, send, entry)

    async def _admit(self, request: Request, receive: Receive) -> tuple[Response | None, Receive, int | None]:
        """The refusal, if there is one; what to read the body from; the audit log's entry, if one was begun."""
        method, path = request.method, request.scope["path"]
        need = rules.need_of(method, path)
        unsafe = method not in SAFE_METHODS
        caller = await self._caller(request)
        request.state.person = caller.person
        request.state.csrf = csrf_token(caller.mark) if caller.mark else ""
        refusal: Response | None = None
        if need != "nothing":
            if caller.person is None:
                return self._ask(request), receive, None
            refusal = await self._refusal(request, caller.person, need)
        if refusal is None and unsafe and self._asks and (caller.mark or caller.person is None):
            given, receive = await _csrf_given(request, receive)
            if not caller.mark or not same(given, request.state.csrf):
                advice = "Load the page again and repeat what you did; cookies must be on."
                refusal = respond(
                    request, problem_of(403, "The form is not from a page that was opened in this browser lately.", advice=advice)
                )
        if not unsafe or need == "nothing" or rules.is_harmless(path) or caller.person is None:
            return refusal, receive, None
        outcome = f"refused: {refusal.status_code}" if refusal is not None else None
        begun = partial(self._begin, caller.person, method, path, address_of(request), outcome)
        return refusal, receive, await to_thread.run_sync(begun)

    async def _caller(self, request: Request) -> Caller:
        if not self._asks:
            return Caller(LOCAL if _is_here(request) else None)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Caller(await to_thread.run_sync(tokens.find, self._engine, given.strip()))
        mark = cookies.read(request, self._settings, cookies.SESSION)
        if mark is not None:
            person = await to_thread.run_sync(sessions.find, self._engine, self._settings, mark)
            if person is not None:
                return Caller(person, mark)
        return Caller(None, cookies.read(request, self._settings, cookies.VISIT))

    async def _refusal(self, request: Request, person: Person, need: rules.Need) -> Response | None:
        allowed = {
            "read": person.may_read,
            "own": person.scope != "read",
            "write": person.may_launch,
            "admin": person.is_admin,
        }[need]
        if not allowed:
            means = "with this token" if person.means.startswith("token") else f"as a {person.role}"
            needed = {"own": "change anything", "write": "change anything", "admin": "do this", "read": "read this"}[need]
            return respond(request, problem_of(403, f"You cannot {needed} {means}.", advice="Ask an admin of the studio."))
        thing = None if person.is_admin else rules.changed(request.method, request.scope["path"])
        if thing is not None:
            noun, key = thing
            if key is None and self._is_owned(noun):
                return respond(request, problem_of(404, f"There is no such thing among the {noun}."))
            owner = await to_thread.run_sync(self._owner, noun, key) if key is not None else None
            if owner is not None and not person.may_change(owner):
                advice = "Make one of your own, or ask them or an admin."
                words = f"{noun.removesuffix('s').capitalize()} {key} belongs to {owner}."
                return respond(request, problem_of(403, words, advice=advice))
        return None

    def _ask(self, request: Request) -> Response:
        """Nobody is known: to the login page where a person looks, a plain refusal where a program asks."""
        if not self._asks:
            advice = "Set OPCOD_AUTH=password, so that people sign in, before the server is reached from other machines."
            return respond(request, problem_of(403, "The studio is for whoever sits at its machine.", advice=advice))
        headers, path = request.headers, request.scope["path"]
        if headers.get("hx-request") == "true":
            here = urlsplit(headers.get("hx-current-url", ""))
            return Response(status_code=401, headers={"HX-Redirect": login_address(_address(here.path, here.query))})
        looks = headers["sec-fetch-dest"] == "document" if "sec-fetch-dest" in headers else "text/html" in headers.get("accept", "")
        if path.startswith("/api/") or not looks:
            problem = problem_of(
                401, "Sign in, or send a valid token.", advice="`Authorization: Bearer opcod_...`; make one under Settings."
            )
            return respond(request, problem, {"WWW-Authenticate": 'Bearer realm="OPCoD Studio"'})
        wanted = _address(path, request.scope["query_string"].decode("latin-1")) if request.method in SAFE_METHODS else "/"
        return RedirectResponse(login_address(wanted), status_code=303)

    async def _pass(self, request: Request, receive: Receive, send: Send, entry: int | None) -> None:
        lapsed, started, ended = False, False, False

        async def noted(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                if entry is not None:
                    await to_thread.run_sync(self._conclude, request, entry, message["status"])
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        async def watched() -> Message:
            """What the viewer sends; during a long answer also that they have gone, once they may no longer be here."""
            nonlocal lapsed
            while self._asks and not lapsed:
                with anyio.move_on_after(RECHECK_SECONDS):
                    return await receive()
                lapsed = not await self._still(request)
            return {"type": "http.disconnect"} if lapsed else await receive()

        with roots.confined(self._folders), servers.confined(self._servers):
            await self.app(request.scope, watched, noted)
        if lapsed and started and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _still(self, request: Request) -> bool:
        try:
            return (await self._caller(request)).person is not None
        except DATABASE_AWAY:
            return True

    def _is_owned(self, noun: str) -> bool:
        table = metadata.tables.get(noun)
        return table is not None and {"id", "owner"} <= set(table.c.keys())

    def _owner(self, noun: str, key: int) -> str | None:
        """Whose it is: asked of whichever table of that name says so."""
        if not self._is_owned(noun):
            return None
        table = metadata.tables[noun]
        with reading(self._engine) as session:
            return session.scalar(select(table.c.owner).where(table.c.id == key))

    def _begin(self, person: Person, method: str, path: str, address: str, outcome: str | None) -> int:
        action, thing = rules.action_of(method, None, path)
        with writing(self._engine) as session:
            return audit.record(session, person.name, person.means, action, thing, address, outcome)

    def _conclude(self, request: Request, entry: int, status: int) -> None:
        route: Any = request.scope.get("route")
        path = request.scope["path"]
        action, thing = rules.action_of(request.method, getattr(route, "path", None), path)
        thing = getattr(request.state, "about", thing)
        outcome = "ok" if status < 400 else f"refused: {status}" if status < 500 else f"failed: {status}"
        try:
            with writing(self._engine) as session:
                audit.conclude(session, entry, action, thing, outcome)
        except DATABASE_AWAY as error:
            logger.error("Entry %s of the audit log stays without its outcome (%s): %s", entry, status, error)


def login_address(wanted: str) -> str:
    """The login page, which afterwards goes to `wanted`."""
    return "/login" if wanted in ("", "/") else f"/login?next={quote(wanted, safe='/')}"


def safe_next(wanted: str) -> str:
    """Where to go after signing in: a page of ours, whatever the address says."""
    ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\", "/login", "/logout", "/links/", "/api/"))
    return wanted if ours and wanted.isprintable() and len(wanted) <= 2000 else "/"


def address_of(request: Request) -> str:
    """The address that the request came from, as far as is known."""
    return request.client.host if request.client else ""


def _is_here(request: Request) -> bool:
    """Whether it came from this machine; a client without an address speaks through a socket file.

    A proxy on this machine passes on what comes from elsewhere, and says so.
    """
    try:
        return ipaddress.ip_address(address_of(request).partition("%")[0]).is_loopback and _all_here(request)
    except ValueError:
        return _all_here(request)


def _all_here(request: Request) -> bool:
    told = [part for name in FORWARDED for header in request.headers.getlist(name) for part in header.split(",")]
    return all(_LOOPBACK.fullmatch(part.strip()) for part in told)


async def _csrf_given(request: Request, receive: Receive) -> tuple[str, Receive]:
    """The token of a form, in its header or among its fields; and a receive that gives the body again where it was read."""
    if (header := request.headers.get(CSRF_HEADER)) is not None:
        return header, receive
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return "", receive
    body = await request.body()
    again = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return again.pop() if again else await receive()

    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
    except ValueError:
        fields = {}
    return fields.get(CSRF_FIELD, [""])[-1], replay


def _address(path: str, query: str) -> str:
    return f"{quote(path)}?{query}" if query else quote(path)
