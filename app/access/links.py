"""Links that let somebody set a password, once: the first admin's, invitations, and for who forgot theirs."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from app.access import people, sessions
from app.access.marks import hashed, new_mark
from app.access.passwords import check_new, hash_password
from app.access.person import Role
from app.access.tables import LinkRow, PersonRow
from app.db import now
from app.errors import NotFound

Purpose = Literal["first_admin", "invite", "reset"]
VALID_HOURS: dict[Purpose, int] = {"first_admin": 24, "invite": 72, "reset": 24}
PATH = "/links/"


def make(session: Session, purpose: Purpose, role: Role, *, by: str, person_id: int | None = None) -> tuple[LinkRow, str]:
    """A link, and its path on this server. Earlier ones that reset the same person's password end."""
    mark = new_mark()
    expires = now() + timedelta(hours=VALID_HOURS[purpose])
    if person_id is not None:
        session.exec(delete(LinkRow).where(col(LinkRow.person_id) == person_id, col(LinkRow.used_at).is_(None)))
    row = LinkRow(token_hash=hashed(mark), purpose=purpose, role=role, person_id=person_id, created_by=by, expires_at=expires)
    session.add(row)
    session.flush()
    return row, f"{PATH}{mark}"


def make_for_first_admin(session: Session) -> str | None:
    """The path at which the first admin sets a password; None where there is an admin. Earlier ones end."""
    session.exec(delete(LinkRow).where(col(LinkRow.purpose) == "first_admin", col(LinkRow.used_at).is_(None)))
    return None if people.has_admin(session) else make(session, "first_admin", "admin", by="server")[1]


def find(session: Session, mark: str) -> tuple[LinkRow, PersonRow | None]:
    """The link with this mark, and whose password it resets.

    Raises:
        NotFound: it is unknown, used or expired, or the first admin is there by now. Which of these is not told.
    """
    row = session.exec(
        select(LinkRow).where(col(LinkRow.token_hash) == hashed(mark), col(LinkRow.used_at).is_(None), col(LinkRow.expires_at) > now())
    ).first()
    if row is None or (row.purpose == "first_admin" and people.has_admin(session)):
        raise NotFound("valid link", "here")
    person = session.get_one(PersonRow, row.person_id) if row.person_id is not None else None
    if person is not None and person.disabled_at is not None:
        raise NotFound("valid link", "here")
    return row, person


def use(session: Session, mark: str, name: str, password: str) -> PersonRow:
    """Set the password, for a new person called `name` or for whom the link was made, and end the link.

    Raises:
        NotFound: see `find`; or somebody was faster.
        Invalid: the name or the password cannot be used. The link stays.
    """
    row, person = find(session, mark)
    check_new(password, person.name if person else name)
    kept = hash_password(password)
    if person is None:
        person = people.add(session, name, row.role, kept)
    else:
        person.password_hash = kept
        assert person.id is not None
        sessions.end_all(session, person.id)
    session.flush()
    used = update(LinkRow).where(col(LinkRow.id) == row.id, col(LinkRow.used_at).is_(None)).values(used_at=now(), person_id=person.id)
    if not session.exec(used).rowcount:
        raise NotFound("valid link", "here")
    return person


def waiting(session: Session) -> list[LinkRow]:
    """Invitations that nobody has used yet, the newest first."""
    rows = select(LinkRow).where(col(LinkRow.used_at).is_(None), col(LinkRow.purpose) == "invite", col(LinkRow.expires_at) > now())
    return list(session.exec(rows.order_by(col(LinkRow.id).desc())).all())


def withdraw(session: Session, link_id: int) -> None:
    """End an invitation.

    Raises:
        NotFound: there is none that waits.
    """
    ended = session.exec(delete(LinkRow).where(col(LinkRow.id) == link_id, col(LinkRow.used_at).is_(None)))
    if not ended.rowcount:
        raise NotFound("invitation", link_id)
