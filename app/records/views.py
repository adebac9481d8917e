"""Saved views: filters of exchanges with a name. Everybody sees them; whoever saved one may take it away."""

from __future__ import annotations

from sqlmodel import Session, col, delete, select

from app import shapes
from app.access.person import Person
from app.db import insert_into, now
from app.errors import Fault, Forbidden, Invalid, NotFound
from app.tables import ViewRow

LONGEST_NAME = 60
LONGEST_QUERY = 2000
MOST = 200
"""Of one person."""


def listing(session: Session) -> list[shapes.View]:
    """All views in order of the alphabet."""
    rows = select(ViewRow).order_by(col(ViewRow.name), col(ViewRow.id)).limit(1000)
    return [shapes.View.model_validate(row) for row in session.exec(rows).all()]


def save(session: Session, name: str, query: str, owner: str) -> shapes.View:
    """Save a filter; one of the same name and owner is replaced.

    Raises:
        Invalid: the name cannot be read, the filter is too long, or there are too many.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise Invalid([Fault("name", f"A view's name is 1 to {LONGEST_NAME} printable characters.", "Take a few short words.")])
    if len(query) > LONGEST_QUERY or not query.isprintable():
        words = f"A filter has at most {LONGEST_QUERY} printable characters."
        raise Invalid([Fault("query", words, "Take it from the inspector's address.")])
    mine = select(ViewRow).where(col(ViewRow.owner) == owner)
    known = session.exec(mine).all()
    if len(known) >= MOST and name not in {view.name for view in known}:
        raise Invalid([Fault("name", f"You have {len(known)} views already.", "Take some away first.")])
    row = {"owner": owner, "name": name, "query": query.lstrip("?"), "created_at": now()}
    saved = insert_into(session, ViewRow).values(**row)
    session.exec(saved.on_conflict_do_update(index_elements=["owner", "name"], set_={"query": row["query"]}))
    return shapes.View.model_validate(session.exec(mine.where(col(ViewRow.name) == name).execution_options(populate_existing=True)).one())


def remove(session: Session, view_id: int) -> None:
    """Take a view away.

    Raises:
        NotFound
    """
    if session.exec(delete(ViewRow).where(col(ViewRow.id) == view_id)).rowcount == 0:
        raise NotFound("view", view_id)


def check_owner(session: Session, view_id: int, person: Person) -> None:
    """Raises NotFound where there is no such view, Forbidden where it is somebody else's."""
    row = session.get(ViewRow, view_id)
    if row is None:
        raise NotFound("view", view_id)
    if not person.may_change(row.owner):
        raise Forbidden(f"{row.owner} saved this view; only they and admins can take it away.")
