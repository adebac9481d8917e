"""Who may come in: oneself, one's tokens, and for admins people, invitations and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, status
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app import shapes
from app.access import audit, links, people, tokens
from app.access.person import Role, Scope
from app.access.shapes import AuditEntry, Invitation, LinkShape, Me, NewTokenShape, PersonShape, TokenShape
from app.access.tables import LinkRow
from app.api.dependencies import (
    LARGEST_ID,
    CurrentAdmin,
    CurrentEngine,
    CurrentPerson,
    CurrentSettings,
    Cursor,
    Limit,
    Reader,
    public_address,
)
from app.db import writing
from app.errors import Refused
from app.records import queries
from app.settings import Settings

router = APIRouter(tags=["access"])

Id = Annotated[int, Path(description="Its number.", ge=1, le=LARGEST_ID)]
PersonName = Annotated[str, Path(description="The person's name.", max_length=64)]


class NewToken(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "nightly sweep", "scope": "write"}]})

    name: str = Field(description="What it is for.", min_length=1, max_length=100)
    scope: Scope = Field("read", description="`read` sees everything, `write` also launches and changes, `admin` does all that you may.")
    expires_at: AwareDatetime | None = Field(None, description="When it ends; null: when it is revoked.")


class NewInvitation(BaseModel):
    """Whom to invite."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "member"}]})

    role: Role = Field(description="`viewer` reads; `member` also launches, and changes what is their own; `admin` does everything.")


class PersonChange(BaseModel):
    """What may change of a person."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "viewer"}]})

    role: Role | None = Field(None, description="Their new role.")
    disabled: bool | None = Field(None, description="Whether they may sign in no longer. Sessions end at once.")


@router.get("/me")
def me(person: CurrentPerson, settings: CurrentSettings) -> Me:
    """Who you are to the service."""
    return Me(name=person.name, role=person.role, scope=person.scope, means=person.means, signs_in=settings.auth == "password")


@router.get("/tokens")
def token_list(person: CurrentPerson, session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[TokenShape]:
    """Your tokens, revoked and expired ones too, newest first."""
    rows = tokens.of_person(session, person.id, before=queries.cursor(cursor), limit=limit)
    return shapes.Listing(items=[TokenShape.model_validate(row) for row in rows[:limit]], next_cursor=queries.next_cursor(rows, limit))


@router.post("/tokens", status_code=status.HTTP_201_CREATED)
def token_create(request: Request, body: NewToken, person: CurrentPerson, engine: CurrentEngine) -> NewTokenShape:
    """Make a token. Its scope cannot exceed what you may do yourself; with a token of your own only one of scope `admin` makes others."""
    expires: datetime | None = body.expires_at
    with writing(engine) as session:
        row, text = tokens.make(session, person, body.name, body.scope, expires)
    audit.about(request, f"token {row.id}, scope {row.scope}")
    return NewTokenShape(**TokenShape.model_validate(row).model_dump(), token=text)


@router.delete("/tokens/{token_id}", status_code=status.HTTP_204_NO_CONTENT)
def token_delete(token_id: Id, person: CurrentPerson, engine: CurrentEngine) -> None:
    """Revoke a token: from now on it lets nobody in."""
    with writing(engine) as session:
        tokens.revoke(session, person, token_id)


@router.get("/people")
def people_list(_: CurrentAdmin, session: Reader, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[PersonShape]:
    """Everybody who may sign in, or might again, newest first."""
    rows = people.listed(session, before=queries.cursor(cursor), limit=limit)
    return shapes.Listing(items=[PersonShape.model_validate(row) for row in rows[:limit]], next_cursor=queries.next_cursor(rows, limit))


@router.patch("/people/{name}")
def person_change(request: Request, name: PersonName, body: PersonChange, _: CurrentAdmin, engine: CurrentEngine) -> PersonShape:
    """Give somebody another role, or let them in no longer, or again."""
    with writing(engine) as session:
        row = people.change(session, name, role=body.role, disabled=body.disabled)
    audit.about(request, people.described(row))
    return PersonShape.model_validate(row)


@router.post("/people/{name}:reset", status_code=status.HTTP_201_CREATED)
def person_reset(name: PersonName, request: Request, admin: CurrentAdmin, engine: CurrentEngine, settings: CurrentSettings) -> LinkShape:
    """A link at which somebody who forgot their password sets another. They stay signed in until they do."""
    with writing(engine) as session:
        person = people.get(session, name)
        row, path = links.make(session, "reset", person.role, by=admin.name, person_id=person.id)  # type: ignore[arg-type]
    return _link(row, path, request, settings)


@router.get("/invitations")
def invitation_list(_: CurrentAdmin, session: Reader) -> shapes.Listing[Invitation]:
    """Invitations that nobody has used yet, newest first."""
    return shapes.Listing(items=[Invitation.model_validate(row) for row in links.waiting(session)])


@router.post("/people", status_code=status.HTTP_201_CREATED)
def invite(body: NewInvitation, request: Request, admin: CurrentAdmin, engine: CurrentEngine, settings: CurrentSettings) -> LinkShape:
    """Invite somebody: a link at which they choose name and password, once."""
    if settings.auth == "none":
        raise Refused("Nobody signs in here.", "Set OPCOD_AUTH=password first.")
    with writing(engine) as session:
        row, path = links.make(session, "invite", body.role, by=admin.name)
    audit.about(request, f"invitation {row.id}, {row.role}")
    return _link(row, path, request, settings)


@router.delete("/invitations/{invitation_id}", status_code=status.HTTP_204_NO_CONTENT)
def invitation_delete(invitation_id: Id, _: CurrentAdmin, engine: CurrentEngine) -> None:
    """Take an invitation back."""
    with writing(engine) as session:
        links.withdraw(session, invitation_id)


@router.get("/audit")
def audit_list(
    _: CurrentAdmin,
    session: Reader,
    who: Annotated[str, Query(description="Only what this person did.", max_length=64)] = "",
    action: Annotated[str, Query(description="Only this, or all that begins so: `run`.", max_length=64)] = "",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> shapes.Listing[AuditEntry]:
    """Who did what, newest first."""
    rows = audit.entries(session, who=who, action=action, before=cursor, limit=limit)
    return shapes.Listing(items=[AuditEntry.model_validate(row) for row in rows[:limit]], next_cursor=queries.next_cursor(rows, limit))


def _link(row: LinkRow, path: str, request: Request, settings: Settings) -> LinkShape:
    url = public_address(request, settings) + path
    return LinkShape(id=row.id or 0, url=url, purpose=row.purpose, role=row.role, expires_at=row.expires_at)
