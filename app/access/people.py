"""People: who may sign in, and as what."""

from __future__ import annotations

import re

from sqlalchemy import update
from sqlmodel import Session, col, select

from app.access import sessions
from app.access.passwords import check_new, hash_password, is_right
from app.access.person import LOCAL, Role
from app.access.tables import PersonRow
from app.db import now
from app.errors import Fault, Invalid, NotFound, Refused
from app.webhooks.tables import WebhookRow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED = frozenset({LOCAL.name, "reaper", "worker", "server", "system", "nobody"})
"""Names under which the service itself acts."""

_ADMINS = select(PersonRow.id).where(col(PersonRow.role) == "admin", col(PersonRow.disabled_at).is_(None)).order_by(col(PersonRow.id))


def add(session: Session, name: str, role: str, password_hash: str) -> PersonRow:
    """A new person.

    Raises:
        Invalid: the name cannot be one, or somebody has it.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        advice = "Use letters, digits, `.`, `_` and `-`, beginning with a letter or digit; at most 64."
        raise Invalid([Fault("name", "That cannot be a name.", advice)])
    if name.lower() in RESERVED or _find(session, name) is not None:
        raise Invalid([Fault("name", f"The name {name} is taken.", "Choose another.")])
    person = PersonRow(name=name, name_key=name.lower(), role=role, password_hash=password_hash)
    session.add(person)
    session.flush()
    return person


def get(session: Session, name: str) -> PersonRow:
    """The person called `name`.

    Raises:
        NotFound
    """
    person = _find(session, name)
    if person is None:
        raise NotFound("person", name[:64])
    return person


def listed(session: Session, *, before: int | None = None, limit: int = 1000) -> list[PersonRow]:
    """Everybody, disabled ones too, the newest first; one more than `limit` where there are more."""
    rows = select(PersonRow).order_by(col(PersonRow.id).desc()).limit(limit + 1)
    return list(session.exec(rows.where(col(PersonRow.id) < before) if before is not None else rows).all())


def has_admin(session: Session) -> bool:
    """Whether anybody can administer."""
    return session.exec(_ADMINS).first() is not None


def change(session: Session, name: str, *, role: Role | None = None, disabled: bool | None = None) -> PersonRow:
    """Give a person another role, or let them in no longer, or again. What they are signed in with follows at once.

    Who may no longer come in is told nothing more either: their webhooks are turned off, and stay so until somebody turns them on.

    Raises:
        NotFound
        Refused: nobody could administer then.
    """
    session.exec(_ADMINS.with_for_update()).all()  # two admins who demote each other take turns
    person = get(session, name)
    assert person.id is not None
    if role is not None:
        person.role = role
    if disabled is not None:
        person.disabled_at = (person.disabled_at or now()) if disabled else None
    session.flush()
    if disabled:
        sessions.end_all(session, person.id)
        theirs = update(WebhookRow).where(col(WebhookRow.owner) == person.name, col(WebhookRow.disabled_at).is_(None))
        session.exec(theirs.values(disabled_at=now(), disabled_why=f"{person.name} may no longer sign in."))
    if not has_admin(session):
        raise Refused(f"{person.name} is the only admin.", "Make somebody else an admin first.")
    return person


def change_password(session: Session, person_id: int, old: str, new: str, *, keep: str | None) -> bool:
    """Set another password and sign out everywhere but in the session with the mark `keep`; False where `old` is wrong.

    Raises:
        Invalid: the new one cannot be one.
    """
    person = session.get_one(PersonRow, person_id)
    if not is_right(old, person.password_hash):
        return False
    check_new(new, person.name, "new")
    person.password_hash = hash_password(new)
    sessions.end_all(session, person_id, but=keep)
    return True


def described(person: PersonRow) -> str:
    """For the audit log."""
    return f"person {person.name}, {person.role}{', disabled' if person.disabled_at else ''}"


def _find(session: Session, name: str) -> PersonRow | None:
    return session.exec(select(PersonRow).where(col(PersonRow.name_key) == name.strip().lower())).first()
