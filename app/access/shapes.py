"""What the REST interface says of people, tokens and the audit log."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.access.person import Role, Scope
from app.shapes import Shape


class Me(Shape):
    """Who asks."""

    name: str = Field(description="Their name; `user` where nobody signs in.")
    role: Role = Field(description="What they may do: `viewer`, `member` or `admin`.")
    scope: Scope = Field(description="How far the session or token goes that the request came with.")
    means: str = Field(description="By what they came in: `local`, `session 7`, `token 3`.")
    signs_in: bool = Field(description="Whether people sign in here; if not, whoever sits at the machine may do everything.")


class PersonShape(Shape):
    """Somebody who may sign in."""

    id: int = Field(description="Their number.")
    name: str = Field(description="The name they sign in with.")
    role: Role = Field(description="`viewer` reads, `member` launches and changes own runs, `admin` does everything.")
    created_at: datetime = Field(description="When they set their first password.")
    disabled_at: datetime | None = Field(description="Since when they may not; null while they may.")


class LinkShape(Shape):
    """A link at which somebody sets a password, once. It is shown now and never again."""

    id: int = Field(description="The link's number; it can be withdrawn by it.")
    url: str = Field(description="Send it to whom it is for.")
    purpose: str = Field(description="What it does: `first`, `invite` or `reset`.")
    role: Role = Field(description="The role that it gives.")
    expires_at: datetime = Field(description="When it ends by itself.")


class Invitation(Shape):
    """An invitation that nobody has used yet."""

    id: int = Field(description="Its number.")
    role: Role = Field(description="The role that it gives.")
    created_by: str = Field(description="Who invited.")
    created_at: datetime = Field(description="When.")
    expires_at: datetime = Field(description="When it ends by itself.")


class TokenShape(Shape):
    """An API token, without its text."""

    id: int = Field(description="Its number.")
    name: str = Field(description="What it is for.")
    prefix: str = Field(description="Its first characters.")
    scope: Scope = Field(description="How far it goes: `read`, `write` or `admin`, and never beyond its owner's role.")
    created_at: datetime = Field(description="When it was made.")
    expires_at: datetime | None = Field(description="When it ends by itself; null: never.")
    used_at: datetime | None = Field(description="When it last let somebody in, within a minute.")
    revoked_at: datetime | None = Field(description="When it was revoked; null while it is good.")


class NewTokenShape(TokenShape):
    """A token that was just made."""

    token: str = Field(description="Its text: send it as `Authorization: Bearer ...`. It is shown now and never again.")


class AuditEntry(Shape):
    """Somebody did something, or tried to."""

    id: int = Field(description="Its number; later ones are higher.")
    at: datetime = Field(description="When.")
    who: str = Field(description="Empty where that is not known.")
    means: str = Field(description="By what they came in, as in `session 7`.")
    action: str = Field(description="As in `run.stop`, `token.create`, `login`.")
    object: str = Field(description="To what, as in `run 3`.")
    address: str = Field(description="The network address that the request came from.")
    outcome: str | None = Field(description="`ok`, or why not; null while under way, or where the server ended before it knew.")
