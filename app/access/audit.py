"""The audit log: who did what, by which means, from where, and what came of it."""

from __future__ import annotations

from sqlalchemy import update
from sqlmodel import Session, col, select
from starlette.requests import Request

from app.access.tables import AuditRow
from app.records.queries import cursor


def record(session: Session, who: str, means: str, action: str, obj: str, address: str, outcome: str | None) -> int:
    """One entry; returns its id."""
    row = AuditRow(who=who, means=means, action=action[:120], object=obj[:200], address=address[:64], outcome=outcome)
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def conclude(session: Session, entry: int, action: str, obj: str, outcome: str) -> None:
    """What became of an entry that was made before it was known."""
    session.exec(update(AuditRow).where(col(AuditRow.id) == entry).values(action=action[:120], object=obj[:200], outcome=outcome))


def has_signed_in(session: Session, who: str, address: str) -> bool:
    """Whether the person has come in from this address."""
    came = (col(AuditRow.who) == who, col(AuditRow.action) == "login", col(AuditRow.address) == address[:64], col(AuditRow.outcome) == "ok")
    return bool(who) and session.exec(select(AuditRow.id).where(*came).limit(1)).first() is not None


def about(request: Request, thing: str) -> None:
    """Say in the request's entry what it was about, where its address does not."""
    request.state.about = thing


def entries(session: Session, *, who: str = "", action: str = "", before: str | None = None, limit: int = 50) -> list[AuditRow]:
    """Entries, newest first; one more than `limit` where there are more. `action` names one, or all that begin so: ``run``."""
    rows = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(limit + 1)
    if who:
        rows = rows.where(col(AuditRow.who) == who)
    if action:
        rows = rows.where(col(AuditRow.action).startswith(action, autoescape=True))
    if (place := cursor(before)) is not None:
        rows = rows.where(col(AuditRow.id) < place)
    return list(session.exec(rows).all())
