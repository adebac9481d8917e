"""Comments: what people write about an exchange."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from app import shapes
from app.access.person import Person
from app.db import now
from app.errors import Fault, Forbidden, Invalid, NotFound
from app.records.labels import check_exchange
from app.records.queries import next_cursor
from app.tables import CommentRow

LONGEST = 10_000


def of(session: Session, exchange_id: int, *, after: int | None = None, limit: int = 200) -> shapes.Listing[shapes.Comment]:
    """The exchange's comments, oldest first.

    Raises:
        NotFound
    """
    check_exchange(session, exchange_id)
    rows = select(CommentRow).where(col(CommentRow.exchange_id) == exchange_id).order_by(col(CommentRow.id))
    if after is not None:
        rows = rows.where(col(CommentRow.id) > after)
    found = session.exec(rows.limit(limit + 1)).all()
    return shapes.Listing(items=[shapes.Comment.model_validate(row) for row in found[:limit]], next_cursor=next_cursor(found, limit))


def write(session: Session, exchange_id: int, text: str, person: str) -> shapes.Comment:
    """Add a comment.

    Raises:
        NotFound
        Invalid: there is nothing in it, or too much.
    """
    text = text.strip()
    if not text or len(text) > LONGEST:
        raise Invalid([Fault("text", f"A comment has 1 to {LONGEST} characters.", "Write something, or less.")])
    check_exchange(session, exchange_id)
    row = CommentRow(exchange_id=exchange_id, person=person, text=text, at=now())
    session.add(row)
    session.flush()
    return shapes.Comment.model_validate(row)


def remove(session: Session, exchange_id: int, comment_id: int, person: Person) -> None:
    """Take a comment away: one's own, or any of them as an admin.

    Raises:
        NotFound
        Forbidden: somebody else wrote it.
    """
    row = session.get(CommentRow, comment_id)
    if row is None or row.exchange_id != exchange_id:
        raise NotFound("comment", comment_id)
    if not person.may_change(row.person):
        raise Forbidden(f"{row.person} wrote this comment; only they and admins can take it away.")
    session.delete(row)


def counts_of(session: Session, exchange_ids: Sequence[int]) -> dict[int, int]:
    """Exchange -> number of its comments, for those that have some."""
    rows = select(CommentRow.exchange_id, func.count()).where(col(CommentRow.exchange_id).in_(exchange_ids))
    return dict(session.exec(rows.group_by(col(CommentRow.exchange_id))).all())
