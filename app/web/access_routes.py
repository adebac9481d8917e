"""Signing in and out, and the links at which a password is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.access import audit, cookies, links, sessions
from app.access.gate import address_of, safe_next
from app.access.marks import csrf_token, new_mark
from app.access.person import Person
from app.access.tables import LinkRow, PersonRow
from app.access.tries import Wait
from app.api.dependencies import CurrentEngine, CurrentSettings, Reader
from app.db import reading, writing
from app.errors import Invalid, NotFound
from app.settings import Settings
from app.templating import duration, render
from app.web.deps import go_to

router = APIRouter()
PRIVATE = {"Cache-Control": "no-store"}
"""The address itself is a secret, or the answer is. Never `no-referrer` with it: browsers then send forms as from nowhere, and
`same_site` refuses those."""
Word = Annotated[str, Form(max_length=1000)]
_SIGNING_IN = CapacityLimiter(2)
"""Who signs in waits in a line of their own, so that a crowd there leaves the other pages alone."""


@dataclass(frozen=True, slots=True)
class LoginPage:
    """Name and password, and what was wrong with the last ones."""

    next: str
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class LinkPage:
    """A link that lets somebody set a password; without `path`, one that no longer does."""

    path: str
    purpose: str
    role: str
    name: str
    faults: tuple[tuple[str, str, str], ...] = ()

    def fault(self, field: str) -> str:
        return next((f"{message} {advice}".strip() for name, message, advice in self.faults if name == field), "")


@router.get("/login")
def login(request: Request, settings: CurrentSettings, next: str = "/") -> Response:
    """The login page; on to where one was going for who is signed in."""
    person: Person | None = request.state.person
    if settings.auth == "none" or person is not None:
        return RedirectResponse(safe_next(next), status_code=303)
    return _with_visit(request, settings, "pages/login.html", 200, login=LoginPage(safe_next(next), "", ""))


@router.post("/login")
async def sign_in(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, name: Word = "", password: Word = "", next: Word = "/"
) -> Response:
    """Sign in. The session is always a new one."""
    if settings.auth == "none":
        return RedirectResponse("/", status_code=303)
    agent = request.headers.get("user-agent", "")

    def attempt() -> str | Wait | None:
        return sessions.sign_in(engine, settings, name, password, address=address_of(request), agent=agent)

    found = await to_thread.run_sync(attempt, limiter=_SIGNING_IN)
    if isinstance(found, str):
        return await to_thread.run_sync(_enter, request, engine, settings, found, safe_next(next))
    if found is None:
        error, status, headers = "Name and password do not fit.", 401, {}
    else:
        error = f"Too many tries. The next one is looked at in {duration(found.seconds)}."
        status, headers = 429, {"Retry-After": str(found.seconds)}
    return _with_visit(request, settings, "pages/login.html", status, headers, login=LoginPage(safe_next(next), name[:64], error))


@router.post("/logout")
def sign_out(request: Request, engine: CurrentEngine, settings: CurrentSettings) -> Response:
    """Sign this browser out, and have it forget the pages it kept."""
    mark = cookies.read(request, settings, cookies.SESSION)
    if mark is not None:
        with writing(engine) as session:
            sessions.end(session, mark)
    response = go_to(request, "/login" if settings.auth == "password" else "/")
    response.headers["Clear-Site-Data"] = '"cache"'
    cookies.take(response, request, settings, cookies.SESSION)
    return response


@router.get("/links/{mark}")
def link(request: Request, mark: str, session: Reader, settings: CurrentSettings) -> Response:
    """Where somebody sets a password. Opening it uses nothing up: mail programs open links too."""
    try:
        row, person = links.find(session, mark)
    except NotFound:
        return render(request, "pages/link.html", 404, PRIVATE, link=LinkPage("", "", "", ""))
    return _with_visit(request, settings, "pages/link.html", 200, link=_link_page(request, row, person, ""))


@router.post("/links/{mark}")
def use_link(
    request: Request, mark: str, engine: CurrentEngine, settings: CurrentSettings, name: Word = "", password: Word = ""
) -> Response:
    """Set the password, and sign in with it."""
    try:
        with writing(engine) as session:
            row, _ = links.find(session, mark)
            person = links.use(session, mark, name, password)
            assert person.id is not None
            agent = request.headers.get("user-agent", "")
            opened, means = sessions.open_session(session, settings, person.id, address=address_of(request), agent=agent)
            action = "password.reset" if row.purpose == "reset" else "person.join"
            audit.record(session, person.name, means, action, f"{row.purpose} by {row.created_by}", address_of(request), "ok")
    except NotFound:
        return render(request, "pages/link.html", 404, PRIVATE, link=LinkPage("", "", "", ""))
    except Invalid as invalid:
        faults = tuple((fault.field, fault.message, fault.advice) for fault in invalid.faults)
        with reading(engine) as session:
            page = _link_page(request, *links.find(session, mark), name[:64], faults)
        return _with_visit(request, settings, "pages/link.html", 422, link=page)
    return _enter(request, engine, settings, opened, "/")


def _link_page(
    request: Request, row: LinkRow, person: PersonRow | None, name: str, faults: tuple[tuple[str, str, str], ...] = ()
) -> LinkPage:
    return LinkPage(request.url.path, row.purpose, row.role, person.name if person else name, faults)


def _enter(request: Request, engine: CurrentEngine, settings: Settings, mark: str, address: str) -> Response:
    """Give the browser its session. What it was known by before ends: nobody can have planted it."""
    before = cookies.read(request, settings, cookies.SESSION)
    if before is not None:
        with writing(engine) as session:
            sessions.end(session, before)
    response = RedirectResponse(address, status_code=303)
    cookies.put(response, request, settings, cookies.SESSION, mark)
    cookies.take(response, request, settings, cookies.VISIT)
    return response


def _with_visit(
    request: Request, settings: Settings, template: str, status: int, headers: dict[str, str] | None = None, **context: object
) -> HTMLResponse:
    """A page with a form for who has not signed in: the form is tied to a cookie of the visit."""
    mark = None
    if not request.state.csrf:
        mark = new_mark()
        request.state.csrf = csrf_token(mark)
    response = render(request, template, status, PRIVATE | (headers or {}), **context)
    if mark is not None:
        cookies.put(response, request, settings, cookies.VISIT, mark)
    return response
