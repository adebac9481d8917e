"""The tables of people and of what lets them in. Of a password, a token or a link only a hash is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index, Text
from sqlmodel import Field, SQLModel

from app.columns import BIG_INTEGER, UtcDateTime
from app.db import now
from app.tables import NEVER_REUSED


class PersonRow(SQLModel, table=True):
    """Somebody who may sign in. Disabled rather than deleted, so that a name never means two people."""

    __tablename__: ClassVar[str] = "people"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    name: str
    name_key: str = Field(unique=True)
    """The name in lower case: two people never differ in that alone."""
    role: str
    password_hash: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SessionRow(SQLModel, table=True):
    """One browser that is signed in. Its row is deleted when it signs out."""

    __tablename__: ClassVar[str] = "sessions"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="people.id", index=True)
    token_hash: str = Field(unique=True)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    seen_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    """Within the last minute."""
    expires_at: datetime = Field(sa_type=UtcDateTime)
    """At the latest, however much it is used."""
    address: str
    agent: str
    """What the browser calls itself."""


class TokenRow(SQLModel, table=True):
    """One API token."""

    __tablename__: ClassVar[str] = "tokens"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(foreign_key="people.id", index=True)
    name: str
    prefix: str
    """Its first characters, to be recognised by."""
    token_hash: str = Field(unique=True)
    scope: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Within the last minute."""
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LinkRow(SQLModel, table=True):
    """A link that lets somebody set a password, once."""

    __tablename__: ClassVar[str] = "links"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    token_hash: str = Field(unique=True)
    purpose: str
    """first_admin, invite or reset."""
    role: str
    person_id: int | None = Field(default=None, foreign_key="people.id")
    """Whose password it resets; afterwards, who came by it."""
    created_by: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TryRow(SQLModel, table=True):
    """How often a password was tried for a name, or from an address, since a moment."""

    __tablename__: ClassVar[str] = "tries"
    key: str = Field(primary_key=True)
    began_at: datetime = Field(sa_type=UtcDateTime)
    count: int


class AuditRow(SQLModel, table=True):
    """Somebody did something, or tried to."""

    __tablename__: ClassVar[str] = "audit"
    __table_args__: ClassVar[Any] = (Index(None, "who", "id"), Index(None, "action", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    who: str
    """Empty where that is not known."""
    means: str
    action: str
    object: str
    address: str
    outcome: str | None = None
    """None: under way, or the server ended before it knew."""


class SecretRow(SQLModel, table=True):
    """A secret, sealed with the home's key."""

    __tablename__: ClassVar[str] = "secrets"
    name: str = Field(primary_key=True)
    sealed: str = Field(sa_type=Text)
    changed_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    changed_by: str
