"""The settings pages and their forms. Each answers with its tab, and says on it what came of the form."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import Engine

from app.access import audit, cookies, links, people, sessions, tokens, tries
from app.access.gate import address_of
from app.access.person import ROLES, SCOPES, Person
from app.api.dependencies import CurrentAdmin, CurrentEngine, CurrentPerson, CurrentSettings, Reader, public_address
from app.db import now, reading, writing
from app.errors import Fault, Forbidden, Invalid, NotFound, Refused
from app.secrets import hub_token, vault
from app.settings import Settings
from app.templating import duration, render
from app.web.access_routes import PRIVATE, Word
from app.web.settings_page import EXPIRIES, Notice, Tab, settings_page
from app.webhooks import registry
from app.webhooks.events import EVENTS

router = APIRouter(prefix="/settings")
Short = Annotated[str, Form(max_length=100)]


@router.get("")
def you(request: Request, session: Reader, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """One's own: password, where one is signed in, the theme."""
    mark = cookies.read(request, settings, cookies.SESSION)
    return render(request, "pages/settings.html", headers=PRIVATE, settings=settings_page(session, settings, person, "you", mark=mark))


@router.post("/password")
def password(
    request: Request, engine: CurrentEngine, person: CurrentPerson, settings: CurrentSettings, old: Word = "", new: Word = ""
) -> Response:
    """Set another password."""
    person_id, mark = _signed_in(person), cookies.read(request, settings, cookies.SESSION)
    with writing(engine) as session:
        wait = tries.count_try(session, person.name, address_of(request), known=True)
    if wait is not None:
        text = f"The next one is looked at in {duration(wait.seconds)}."
        return _tab(request, engine, settings, person, "you", Notice("error", "Too many tries.", text), 429)
    try:
        with writing(engine) as session:
            if not people.change_password(session, person_id, old, new, keep=mark):
                raise Invalid([Fault("old", "That is not your password.")])
    except Invalid as invalid:
        return _tab(request, engine, settings, person, "you", status=422, faults=_faults(invalid))
    notice = Notice("done", "Your password is changed.", "Everywhere else you are signed out; your tokens stay.")
    return _tab(request, engine, settings, person, "you", notice)


@router.post("/sessions/end")
def end_others(request: Request, engine: CurrentEngine, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """Sign out everywhere else."""
    with writing(engine) as session:
        sessions.end_all(session, _signed_in(person), but=cookies.read(request, settings, cookies.SESSION))
    return _tab(request, engine, settings, person, "you", Notice("done", "You are signed out everywhere else."))


@router.post("/sessions/{session_id:int}/end")
def end_session(request: Request, session_id: int, engine: CurrentEngine, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """Sign one browser out."""
    with writing(engine) as session:
        sessions.end_one(session, _signed_in(person), session_id)
    return _tab(request, engine, settings, person, "you", Notice("done", "That browser is signed out."))


@router.get("/tokens")
def token_list(request: Request, session: Reader, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """One's API tokens."""
    return render(request, "pages/settings.html", headers=PRIVATE, settings=settings_page(session, settings, person, "tokens"))


@router.post("/tokens")
def token_create(
    request: Request,
    engine: CurrentEngine,
    person: CurrentPerson,
    settings: CurrentSettings,
    name: Short = "",
    scope: Short = "read",
    expires: Short = "90",
) -> Response:
    """Make a token and show it, this once."""
    try:
        if not name.strip() or scope not in SCOPES or expires not in EXPIRIES:
            raise Invalid([Fault("name", "Say what it is for.")])
        days = EXPIRIES[expires][1]
        with writing(engine) as session:
            row, text = tokens.make(session, person, name.strip(), scope, now() + timedelta(days=days) if days else None)
    except Invalid as invalid:
        return _tab(request, engine, settings, person, "tokens", status=422, faults=_faults(invalid))
    except (Refused, Forbidden) as refused:
        return _tab(request, engine, settings, person, "tokens", _error(refused), status=409)
    audit.about(request, f"token {row.id}, scope {row.scope}")
    notice = Notice("done", f"The token {row.name} is made.", "Copy it now: it is not shown again.", text)
    return _tab(request, engine, settings, person, "tokens", notice, status=201)


@router.post("/tokens/{token_id:int}/revoke")
def token_revoke(request: Request, token_id: int, engine: CurrentEngine, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """Revoke a token."""
    with writing(engine) as session:
        tokens.revoke(session, person, token_id)
    return _tab(request, engine, settings, person, "tokens", Notice("done", "The token is revoked."))


@router.get("/webhooks")
def webhook_list(request: Request, session: Reader, person: CurrentPerson, settings: CurrentSettings) -> Response:
    """Whom the studio tells of what happens."""
    return render(request, "pages/settings.html", headers=PRIVATE, settings=settings_page(session, settings, person, "webhooks"))


@router.post("/webhooks")
def webhook_create(
    request: Request,
    engine: CurrentEngine,
    person: CurrentPerson,
    settings: CurrentSettings,
    url: Annotated[str, Form(max_length=2000)] = "",
    event: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make a webhook and show its secret, this once."""
    try:
        chosen = [name for name in EVENTS if name in (event or ())]
        if not chosen:
            raise Invalid([Fault("event", "Choose what it is told of.")])
        registry.check(url.strip(), settings)
        with writing(engine) as session:
            row, secret = registry.make(session, settings, person, url.strip(), chosen)
    except Invalid as invalid:
        return _tab(request, engine, settings, person, "webhooks", status=422, faults=_faults(invalid))
    except Refused as refused:
        return _tab(request, engine, settings, person, "webhooks", _error(refused), status=409)
    audit.about(request, f"webhook {row.id}")
    text = "Its deliveries are signed with this secret. Copy it now: it is not shown again."
    return _tab(request, engine, settings, person, "webhooks", Notice("done", "The webhook is made.", text, secret), status=201)


@router.post("/webhooks/{webhook_id:int}/{verb}")
def webhook_act(
    request: Request, webhook_id: int, verb: str, engine: CurrentEngine, person: CurrentPerson, settings: CurrentSettings
) -> Response:
    """Test it, turn it off or on, delete it."""
    said = {"ping": "A test is on its way.", "off": "It is told nothing now.", "on": "It is told again.", "delete": "It is deleted."}
    if verb not in said:
        raise NotFound("action", verb)
    try:
        with writing(engine) as session:
            row = registry.get(session, person, webhook_id)
            if verb == "ping":
                registry.ping(session, row)
            elif verb == "delete":
                registry.remove(session, row)
            else:
                registry.change(session, row, {"enabled": verb == "on"})
    except Refused as refused:
        return _tab(request, engine, settings, person, "webhooks", _error(refused), status=409)
    return _tab(request, engine, settings, person, "webhooks", Notice("done", said[verb]))


@router.get("/people")
def people_list(request: Request, session: Reader, admin: CurrentAdmin, settings: CurrentSettings) -> Response:
    """Everybody, and who is invited."""
    return render(request, "pages/settings.html", headers=PRIVATE, settings=settings_page(session, settings, admin, "people"))


@router.post("/people")
def invite(request: Request, engine: CurrentEngine, admin: CurrentAdmin, settings: CurrentSettings, role: Short = "member") -> Response:
    """Invite somebody, and show the link, this once."""
    if settings.auth == "none" or role not in ROLES:
        raise Refused("Nobody can be invited so.", "Set OPCOD_AUTH=password, and choose one of the roles.")
    with writing(engine) as session:
        row, path = links.make(session, "invite", role, by=admin.name)
    address = public_address(request, settings) + path
    audit.about(request, f"invitation {row.id}, {row.role}")
    text = f"Send it to the person you invite: within {links.VALID_HOURS['invite'] // 24} days it makes one {role}. It is not shown again."
    return _tab(
        request,
        engine,
        settings,
        admin,
        "people",
        Notice("done", "The invitation is made.", text, address),
        201,
    )


@router.post("/people/{name}/change")
def person_change(
    request: Request,
    name: str,
    engine: CurrentEngine,
    admin: CurrentAdmin,
    settings: CurrentSettings,
    role: Short = "",
    disabled: Short = "",
) -> Response:
    """Another role, or out, or in again."""
    wanted: dict[str, Any] = {"role": role} if role in ROLES else {"disabled": disabled == "yes"} if disabled in ("yes", "no") else {}
    try:
        with writing(engine) as session:
            audit.about(request, people.described(people.change(session, name, **wanted)))
    except Refused as refused:
        return _tab(request, engine, settings, admin, "people", _error(refused), status=409)
    said = (
        f"{name} is now {'an' if role == 'admin' else 'a'} {role}."
        if role
        else f"{name} may {'no longer' if disabled == 'yes' else 'again'} sign in."
    )
    return _tab(request, engine, settings, admin, "people", Notice("done", said))


@router.post("/people/{name}/reset")
def person_reset(request: Request, name: str, engine: CurrentEngine, admin: CurrentAdmin, settings: CurrentSettings) -> Response:
    """A link for somebody who forgot their password."""
    with writing(engine) as session:
        person = people.get(session, name)
        _, path = links.make(session, "reset", person.role, by=admin.name, person_id=person.id)  # type: ignore[arg-type]
    text = f"Send it to {person.name}: within {links.VALID_HOURS['reset']} hours it sets another password, once. It is not shown again."
    address = public_address(request, settings) + path
    return _tab(request, engine, settings, admin, "people", Notice("done", "The link is made.", text, address), 201)


@router.post("/people/invitations/{link_id:int}/withdraw")
def withdraw(request: Request, link_id: int, engine: CurrentEngine, admin: CurrentAdmin, settings: CurrentSettings) -> Response:
    """Take an invitation back."""
    try:
        with writing(engine) as session:
            links.withdraw(session, link_id)
    except NotFound:
        return _tab(request, engine, settings, admin, "people", Notice("error", "That invitation was used or taken back meanwhile."), 409)
    return _tab(request, engine, settings, admin, "people", Notice("done", "The invitation is taken back."))


@router.get("/audit")
def audit_list(
    request: Request, session: Reader, admin: CurrentAdmin, settings: CurrentSettings, who: str = "", action: str = "", before: str = ""
) -> Response:
    """Who did what."""
    page = settings_page(session, settings, admin, "audit", who=who.strip()[:64], action=action.strip()[:64], before=before)
    return render(request, "pages/settings.html", headers=PRIVATE, settings=page)


@router.get("/studio")
def studio(request: Request, session: Reader, admin: CurrentAdmin, settings: CurrentSettings) -> Response:
    """The studio's own secrets."""
    page = settings_page(session, settings, admin, "studio")
    return render(request, "pages/settings.html", headers=PRIVATE, settings=page)


@router.post("/studio/hub-token")
def hub_token_keep(
    request: Request, engine: CurrentEngine, admin: CurrentAdmin, settings: CurrentSettings, token: Word = "", forget: Short = ""
) -> Response:
    """Keep the hub token, or forget it."""
    try:
        with writing(engine) as session:
            if forget:
                vault.forget(session, hub_token.NAME)
            else:
                hub_token.keep(session, settings, token, by=admin.name)
    except Invalid as invalid:
        return _tab(request, engine, settings, admin, "studio", status=422, faults=_faults(invalid))
    audit.about(request, "forgotten" if forget else "kept")
    return _tab(request, engine, settings, admin, "studio", Notice("done", f"The hub token is {'forgotten' if forget else 'kept'}."))


def _tab(
    request: Request,
    engine: Engine,
    settings: Settings,
    person: Person,
    tab: Tab,
    notice: Notice | None = None,
    status: int = 200,
    faults: tuple[tuple[str, str], ...] = (),
) -> Response:
    with reading(engine) as session:
        mark = cookies.read(request, settings, cookies.SESSION)
        page = settings_page(session, settings, person, tab, mark=mark, notice=notice, faults=faults)
        return render(request, "pages/settings.html", status, PRIVATE, settings=page)


def _signed_in(person: Person) -> int:
    if person.id is None:
        raise Refused("Nobody signs in here.", "Set OPCOD_AUTH=password first.")
    return person.id


def _faults(invalid: Invalid) -> tuple[tuple[str, str], ...]:
    return tuple((fault.field, f"{fault.message} {fault.advice}".strip()) for fault in invalid.faults)


def _error(refused: Refused | Forbidden) -> Notice:
    return Notice("error", str(refused), refused.advice)
