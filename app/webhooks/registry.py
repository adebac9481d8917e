"""Makes, changes and deletes webhooks, and reads their deliveries. Everyone sees their own, admins all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, union_all, update
from sqlmodel import Session, col, select

from app.access.person import Person
from app.db import now
from app.errors import Fault, Invalid, NotFound, Refused
from app.guards import outbound
from app.guards.outbound import OutboundRefused
from app.secrets.vault import open_vault
from app.settings import Settings
from app.webhooks import outbox, signing
from app.webhooks.events import PING
from app.webhooks.shapes import Delivery, DeliveryTry, Webhook
from app.webhooks.tables import DeliveryRow, DeliveryTryRow, WebhookRow

MOST = 50
"""Webhooks of one person."""


def check(url: str, settings: Settings) -> None:
    """See that `url` may be called. It may look up a name: call it outside any transaction.

    Raises:
        Invalid
    """
    try:
        outbound.check_url(url, allow=settings.outbound_allow)
    except OutboundRefused as error:
        raise Invalid([Fault("url", error.message, error.advice)]) from None


def make(session: Session, settings: Settings, person: Person, url: str, events: Sequence[str]) -> tuple[WebhookRow, str]:
    """A new webhook and its secret, which is told this once.

    Raises:
        Refused: the person has too many.
    """
    if session.exec(select(func.count()).where(col(WebhookRow.owner) == person.name)).one() >= MOST:
        raise Refused(f"You have {MOST} webhooks, which is as many as there may be.", "Delete one that is not used.")
    secret = signing.new_secret()
    row = WebhookRow(owner=person.name, url=url, events=list(dict.fromkeys(events)), sealed_secret=open_vault(settings).seal(secret))
    session.add(row)
    session.flush()
    return row, secret


def of_person(session: Session, person: Person, *, before: int | None = None, limit: int = MOST) -> tuple[list[Webhook], str | None]:
    """What this person may see, newest first, and the cursor of the next part."""
    rows = select(WebhookRow).order_by(col(WebhookRow.id).desc())
    if not person.is_admin:
        rows = rows.where(col(WebhookRow.owner) == person.name)
    if before is not None:
        rows = rows.where(col(WebhookRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    items = [Webhook.model_validate(row) for row in found[:limit]]
    return items, str(items[-1].id) if len(found) > limit else None


def get(session: Session, person: Person, webhook_id: int) -> WebhookRow:
    """One webhook.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    row = session.get(WebhookRow, webhook_id)
    if row is None or not (person.is_admin or row.owner == person.name):
        raise NotFound("webhook", webhook_id)
    return row


def change(session: Session, row: WebhookRow, values: Mapping[str, Any]) -> None:
    """Set `url`, `events` or `enabled`. One that is enabled again starts with a clean record."""
    row.url = values.get("url", row.url)
    row.events = list(dict.fromkeys(values.get("events", row.events)))
    enabled = values.get("enabled")
    if enabled:
        row.disabled_at = row.disabled_why = row.failing_since = None
    elif enabled is False and row.disabled_at is None:
        row.disabled_at, row.disabled_why = now(), "Somebody turned it off."
    session.add(row)


def remove(session: Session, row: WebhookRow) -> None:
    """Delete it with its deliveries."""
    mine = select(DeliveryRow.id).where(col(DeliveryRow.webhook_id) == row.id)
    session.exec(delete(DeliveryTryRow).where(col(DeliveryTryRow.delivery_id).in_(mine)))
    session.exec(delete(DeliveryRow).where(col(DeliveryRow.webhook_id) == row.id))
    session.delete(row)


def ping(session: Session, row: WebhookRow) -> DeliveryRow:
    """A delivery that says nothing but that it came through.

    Raises:
        Refused: it is told nothing now.
    """
    if row.disabled_at is not None:
        raise Refused(f"Webhook {row.id} is turned off.", "Turn it on first.")
    return outbox.put(session, row, PING, {"webhook": {"id": row.id}})


def redeliver(session: Session, row: WebhookRow, delivery_id: int) -> DeliveryRow:
    """Send a delivery again, under the same id.

    Raises:
        NotFound
        Refused: the webhook is turned off.
    """
    delivery = session.get(DeliveryRow, delivery_id)
    if delivery is None or delivery.webhook_id != row.id:
        raise NotFound("delivery", delivery_id)
    if row.disabled_at is not None:
        raise Refused(f"Webhook {row.id} is turned off.", "Turn it on first.")
    session.exec(update(DeliveryRow).where(col(DeliveryRow.id) == delivery_id).values(next_try_at=now(), tries=0, delivered_at=None))
    session.refresh(delivery)
    return delivery


def deliveries(session: Session, webhook_id: int, *, before: int | None = None, limit: int = 50) -> tuple[list[Delivery], str | None]:
    """The newest deliveries of a webhook, each with its last try, and the cursor of the next part."""
    rows = select(DeliveryRow).where(col(DeliveryRow.webhook_id) == webhook_id).order_by(col(DeliveryRow.id).desc())
    if before is not None:
        rows = rows.where(col(DeliveryRow.id) < before)
    found = list(session.exec(rows.limit(limit + 1)).all())
    return _told(session, found[:limit]), str(found[limit - 1].id) if len(found) > limit else None


def newest_deliveries(session: Session, webhook_ids: Sequence[int], limit: int) -> dict[int, list[Delivery]]:
    """Of each webhook the newest deliveries, in a fixed number of queries."""
    if not webhook_ids:
        return {}
    key = col(DeliveryRow.id)
    parts = [select(key).where(col(DeliveryRow.webhook_id) == one).order_by(key.desc()).limit(limit).subquery() for one in webhook_ids]
    newest = union_all(*(select(part.c.id) for part in parts))
    rows = session.exec(select(DeliveryRow).where(key.in_(newest)).order_by(key.desc())).all()
    found: dict[int, list[Delivery]] = {}
    for row, told in zip(rows, _told(session, rows), strict=True):
        found.setdefault(row.webhook_id, []).append(told)
    return found


def _told(session: Session, rows: Sequence[DeliveryRow]) -> list[Delivery]:
    """Deliveries, each with its last try."""
    newest = (
        select(func.max(DeliveryTryRow.id))
        .where(col(DeliveryTryRow.delivery_id).in_([row.id for row in rows]))
        .group_by(col(DeliveryTryRow.delivery_id))
    )
    last = {attempt.delivery_id: attempt for attempt in session.exec(select(DeliveryTryRow).where(col(DeliveryTryRow.id).in_(newest)))}
    items = []
    for row in rows:
        item = Delivery.model_validate(row)
        attempt = last.get(row.id or 0)
        if attempt is not None:
            item = item.model_copy(update={"last_status": attempt.status, "last_answer": attempt.answer})
        items.append(item)
    return items


def tries(session: Session, row: WebhookRow, delivery_id: int, *, before: int | None, limit: int) -> tuple[list[DeliveryTry], str | None]:
    """The newest requests that were made for a delivery, and the cursor of the next part.

    Raises:
        NotFound
    """
    delivery = session.get(DeliveryRow, delivery_id)
    if delivery is None or delivery.webhook_id != row.id:
        raise NotFound("delivery", delivery_id)
    rows = select(DeliveryTryRow).where(col(DeliveryTryRow.delivery_id) == delivery_id).order_by(col(DeliveryTryRow.id).desc())
    if before is not None:
        rows = rows.where(col(DeliveryTryRow.id) < before)
    found = session.exec(rows.limit(limit + 1)).all()
    items = [DeliveryTry.model_validate(item) for item in found[:limit]]
    return items, str(items[-1].id) if len(found) > limit else None
