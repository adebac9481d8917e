"""Browsers that are signed in, and how one becomes so."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, delete, update
from sqlmodel import Session, col, select

from app.access import audit, tries
from app.access.marks import hashed, new_mark
from app.access.passwords import hash_password, is_right, needs_rehash
from app.access.person import Person
from app.access.tables import PersonRow, SessionRow
from app.db import now, reading, writing
from app.settings import Settings

SEEN_EVERY = timedelta(minutes=1)
"""How exactly it is noted when a session or token was last used."""


def sign_in(engine: Engine, settings: Settings, name: str, password: str, *, address: str, agent: str) -> str | tries.Wait | None:
    """The mark of a new session, for the cookie; None where name and password do not fit; how long to wait after too many tries.

    Takes as long for a name that nobody has, for one that is disabled and for a wrong password.
    """
    with writing(engine) as session:
        person = session.exec(select(PersonRow).where(col(PersonRow.name_key) == name.strip().lower())).first()
        who = person.name if person else ""  # what else is typed there is nobody's business
        known = audit.has_signed_in(session, who, address)
        wait = tries.count_try(session, name, address, known=known)
        if wait is not None:
            if wait.first:
                audit.record(session, who, "", "login", "", address, "refused: too many tries")
            return wait
    right = is_right(password, person.password_hash if person and person.disabled_at is None else None)
    renewed = hash_password(password) if right and person and needs_rehash(person.password_hash) else None
    with writing(engine) as session:
        if not right or person is None:
            audit.record(session, who, "", "login", "", address, "refused: wrong name or password")
            return None
        tries.forgive(session, name, address, known=known)
        if renewed:
            session.exec(update(PersonRow).where(col(PersonRow.id) == person.id).values(password_hash=renewed))
        assert person.id is not None
        mark, means = open_session(session, settings, person.id, address=address, agent=agent)
        audit.record(session, person.name, means, "login", "", address, "ok")
        return mark


def open_session(session: Session, settings: Settings, person_id: int, *, address: str, agent: str) -> tuple[str, str]:
    """A new session's mark, and what the audit log calls it. Sessions that have run out are swept away on the way."""
    moment = now()
    idle = moment - timedelta(hours=settings.session_idle_hours)
    session.exec(delete(SessionRow).where((col(SessionRow.expires_at) <= moment) | (col(SessionRow.seen_at) <= idle)))
    mark = new_mark()
    row = SessionRow(
        person_id=person_id,
        token_hash=hashed(mark),
        expires_at=moment + timedelta(days=settings.session_days),
        address=address[:64],
        agent=" ".join(agent.split())[:200],
    )
    session.add(row)
    session.flush()
    return mark, f"session {row.id}"


def find(engine: Engine, settings: Settings, mark: str) -> Person | None:
    """Whose session has this mark; None for one that is unknown, signed out or run out, or whose person is disabled."""
    moment = now()
    with reading(engine) as session:
        found = session.exec(
            select(SessionRow, PersonRow)
            .where(col(SessionRow.token_hash) == hashed(mark))
            .where(col(PersonRow.id) == col(SessionRow.person_id), col(PersonRow.disabled_at).is_(None))
            .where(col(SessionRow.expires_at) > moment)
            .where(col(SessionRow.seen_at) > moment - timedelta(hours=settings.session_idle_hours))
        ).first()
    if found is None:
        return None
    row, person = found
    if row.seen_at < moment - SEEN_EVERY:
        with writing(engine) as session:
            session.exec(update(SessionRow).where(col(SessionRow.id) == row.id).values(seen_at=moment))
    return Person(person.name, person.role, means=f"session {row.id}", id=person.id)  # type: ignore[arg-type]


def of_person(session: Session, settings: Settings, person_id: int) -> list[SessionRow]:
    """Where the person is signed in, the most recently used first."""
    moment = now()
    idle = moment - timedelta(hours=settings.session_idle_hours)
    mine = select(SessionRow).where(col(SessionRow.person_id) == person_id)
    mine = mine.where(col(SessionRow.expires_at) > moment, col(SessionRow.seen_at) > idle)
    return list(session.exec(mine.order_by(col(SessionRow.seen_at).desc())).all())


def end(session: Session, mark: str) -> None:
    """Sign one browser out."""
    session.exec(delete(SessionRow).where(col(SessionRow.token_hash) == hashed(mark)))


def end_one(session: Session, person_id: int, session_id: int) -> bool:
    """Sign out a browser of this person; whether it was signed in."""
    ended = session.exec(delete(SessionRow).where(col(SessionRow.id) == session_id, col(SessionRow.person_id) == person_id))
    return bool(ended.rowcount)


def end_all(session: Session, person_id: int, *, but: str | None = None) -> None:
    """Sign a person out everywhere, but for the session with the mark `but`."""
    mine = delete(SessionRow).where(col(SessionRow.person_id) == person_id)
    session.exec(mine.where(col(SessionRow.token_hash) != hashed(but)) if but else mine)
