"""Labels: free words that people put on exchanges, to find them again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func
from sqlalchemy.orm.util import identity_key
from sqlmodel import Session, col, select

from app import shapes
from app.db import insert_into, now
from app.errors import Fault, Invalid, NotFound
from app.tables import ExchangeLabelRow, ExchangeRow

LONGEST = 64
STAR = "starred"
"""The label that the inspector shows as a star."""
MOST = 50
"""Of one exchange."""


def of(session: Session, exchange_id: int) -> list[shapes.Label]:
    """The exchange's labels in order of the alphabet.

    Raises:
        NotFound
    """
    check_exchange(session, exchange_id)
    rows = select(ExchangeLabelRow).where(col(ExchangeLabelRow.exchange_id) == exchange_id).order_by(col(ExchangeLabelRow.label))
    return [shapes.Label.model_validate(row) for row in session.exec(rows).all()]


def put(session: Session, exchange_id: int, label: str, person: str) -> None:
    """Put a label on; one that is there stays as it is, whoever put it.

    Raises:
        NotFound
        Invalid: it is no word to be read, or there are too many.
    """
    label = label.strip()
    if not label or len(label) > LONGEST or not label.isprintable() or "/" in label:
        raise Invalid([Fault("label", f"A label is 1 to {LONGEST} printable characters without a slash.", "Take a short word.")])
    run_id = check_exchange(session, exchange_id)
    count = session.exec(select(func.count()).where(col(ExchangeLabelRow.exchange_id) == exchange_id)).one()
    if count >= MOST:
        raise Invalid([Fault("label", f"The exchange has {count} labels already.", "Take some off first.")])
    row = {"exchange_id": exchange_id, "run_id": run_id, "label": label, "person": person, "at": now()}
    session.exec(insert_into(session, ExchangeLabelRow).values(**row).on_conflict_do_nothing())


def remove(session: Session, exchange_id: int, label: str) -> None:
    """Take a label off; nothing happens where it is not on.

    Raises:
        NotFound: there is no such exchange.
    """
    check_exchange(session, exchange_id)
    session.exec(delete(ExchangeLabelRow).where(col(ExchangeLabelRow.exchange_id) == exchange_id, col(ExchangeLabelRow.label) == label))


def counts(session: Session, *, run_id: int | None = None, after: str | None = None, limit: int = 50) -> shapes.Listing[shapes.LabelCount]:
    """Every label in use with the number of its exchanges, in order of the alphabet."""
    rows = select(col(ExchangeLabelRow.label), func.count()).group_by(col(ExchangeLabelRow.label)).order_by(col(ExchangeLabelRow.label))
    if run_id is not None:
        rows = rows.where(col(ExchangeLabelRow.run_id) == run_id)
    if after is not None:
        rows = rows.where(col(ExchangeLabelRow.label) > after)
    found = session.exec(rows.limit(limit + 1)).all()
    items = [shapes.LabelCount(label=label, exchanges=count) for label, count in found[:limit]]
    return shapes.Listing(items=items, next_cursor=items[-1].label if len(found) > limit else None)


def of_many(session: Session, exchange_ids: Sequence[int]) -> dict[int, list[str]]:
    """Exchange -> its labels in order of the alphabet, for those that have some."""
    rows = (
        select(ExchangeLabelRow)
        .where(col(ExchangeLabelRow.exchange_id).in_(exchange_ids))
        .order_by(col(ExchangeLabelRow.exchange_id), col(ExchangeLabelRow.label))
    )
    found: dict[int, list[str]] = {}
    for row in session.exec(rows).all():
        found.setdefault(row.exchange_id, []).append(row.label)
    return found


def check_exchange(session: Session, exchange_id: int) -> int:
    """The exchange's run. The database is not asked where the session holds the exchange.

    Raises:
        NotFound
    """
    held = session.identity_map.get(identity_key(ExchangeRow, exchange_id))
    if isinstance(held, ExchangeRow):
        return held.run_id
    run_id = session.exec(select(ExchangeRow.run_id).where(col(ExchangeRow.id) == exchange_id)).first()
    if run_id is None:
        raise NotFound("exchange", exchange_id)
    return run_id


def with_label(session: Session, exchange_ids: Sequence[int], label: str) -> set[int]:
    """Those of the exchanges that have the label."""
    rows = select(col(ExchangeLabelRow.exchange_id)).where(col(ExchangeLabelRow.label) == label)
    return set(session.exec(rows.where(col(ExchangeLabelRow.exchange_id).in_(exchange_ids))).all())
