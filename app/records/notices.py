"""What a run's owner should know and no training event says: a damaged checkpoint, a store that is away, a log that was cut."""

from __future__ import annotations

from sqlalchemy import insert, update
from sqlmodel import Session, col, select

from app.db import now
from app.tables import EventRow, NoticeRow

LONGEST = 2000
"""Characters of a notice."""


def add(session: Session, run_id: int, kind: str, message: str) -> None:
    """Put a notice on the run's page. One of the same kind that says the same and still stands is not repeated."""
    message = message[:LONGEST]
    standing = (col(NoticeRow.run_id) == run_id, col(NoticeRow.kind) == kind, col(NoticeRow.ended_at).is_(None))
    if session.exec(select(NoticeRow.id).where(*standing, col(NoticeRow.message) == message)).first() is None:
        session.add(NoticeRow(run_id=run_id, kind=kind, message=message))
        _tell(session, run_id, kind)


def end(session: Session, run_id: int, kind: str) -> None:
    """What notices of this kind say is so no more."""
    standing = (col(NoticeRow.run_id) == run_id, col(NoticeRow.kind) == kind, col(NoticeRow.ended_at).is_(None))
    if session.exec(update(NoticeRow).where(*standing).values(ended_at=now())).rowcount:
        _tell(session, run_id, kind)


def of_run(session: Session, run_id: int, *, standing_only: bool = False) -> list[NoticeRow]:
    """The run's notices, newest first."""
    rows = select(NoticeRow).where(col(NoticeRow.run_id) == run_id).order_by(col(NoticeRow.id).desc())
    if standing_only:
        rows = rows.where(col(NoticeRow.ended_at).is_(None))
    return list(session.exec(rows.limit(100)).all())


def _tell(session: Session, run_id: int, kind: str) -> None:
    session.exec(insert(EventRow).values(run_id=run_id, seq=None, kind="notice", data={"kind": kind}, at=now()))
