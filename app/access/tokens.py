"""API tokens: shown once, kept as a hash, no further than their scope and their person's role."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from app.access.marks import SHOWN, TOKEN_PREFIX, hashed, new_mark
from app.access.person import Person, Scope
from app.access.sessions import SEEN_EVERY
from app.access.tables import PersonRow, TokenRow
from app.db import now, reading, writing
from app.errors import Fault, Forbidden, Invalid, NotFound, Refused

MOST = 100
"""Valid tokens of one person."""


def make(session: Session, person: Person, name: str, scope: Scope, expires_at: datetime | None) -> tuple[TokenRow, str]:
    """A token of the person's own, and its text, which is never known again.

    Raises:
        Forbidden: the scope exceeds what they may do; or they came by a token that does not administer.
        Invalid: it would have expired already.
        Refused: they have too many, or there are no people.
    """
    if person.id is None:
        raise Refused("Tokens belong to people, and nobody signs in here.", "Set OPCOD_AUTH=password; on this machine no token is needed.")
    if person.means.startswith("token") and not person.is_admin:
        raise Forbidden("A token makes tokens only where its scope is admin.", "Sign in with your password to make one.")
    if not person.may_grant(scope):
        raise Forbidden(f"As a {person.role} you cannot make a token with the scope {scope}.", "Choose a narrower scope.")
    if expires_at is not None and expires_at <= now():
        raise Invalid([Fault("expires_at", "That has passed.", "Give a time to come, or none.")])
    if sum(is_valid(row) for row in of_person(session, person.id)) >= MOST:
        raise Refused(f"You have {MOST} valid tokens.", "Revoke some that are no longer used.")
    text = TOKEN_PREFIX + new_mark()
    row = TokenRow(person_id=person.id, name=name, prefix=text[:SHOWN], token_hash=hashed(text), scope=scope, expires_at=expires_at)
    session.add(row)
    session.flush()
    return row, text


def find(engine: Engine, text: str) -> Person | None:
    """Whose token this is; None for one that is unknown, revoked or expired, or whose person is disabled."""
    if not text.startswith(TOKEN_PREFIX):
        return None
    moment = now()
    with reading(engine) as session:
        found = session.exec(
            select(TokenRow, PersonRow)
            .where(col(TokenRow.token_hash) == hashed(text), col(TokenRow.revoked_at).is_(None))
            .where(col(PersonRow.id) == col(TokenRow.person_id), col(PersonRow.disabled_at).is_(None))
        ).first()
    if found is None or not is_valid(found[0]):
        return None
    row, person = found
    if row.used_at is None or row.used_at < moment - SEEN_EVERY:
        with writing(engine) as session:
            session.exec(update(TokenRow).where(col(TokenRow.id) == row.id).values(used_at=moment))
    return Person(person.name, person.role, row.scope, f"token {row.id}", person.id)  # type: ignore[arg-type]


def of_person(session: Session, person_id: int | None, *, before: int | None = None, limit: int = 1000) -> list[TokenRow]:
    """A person's tokens, revoked ones too, the newest first; one more than `limit` where there are more."""
    rows = select(TokenRow).where(col(TokenRow.person_id) == person_id).order_by(col(TokenRow.id).desc()).limit(limit + 1)
    return list(session.exec(rows.where(col(TokenRow.id) < before) if before is not None else rows).all())


def revoke(session: Session, person: Person, token_id: int) -> None:
    """From now on it lets nobody in. An admin may revoke anybody's; revoking again changes nothing.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    row = session.get(TokenRow, token_id)
    if row is None or not (row.person_id == person.id or person.is_admin):
        raise NotFound("token", token_id)
    row.revoked_at = row.revoked_at or now()


def is_valid(row: TokenRow) -> bool:
    """Whether it still lets its person in."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now())
