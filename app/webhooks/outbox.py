"""Puts an event into the outbox, in the transaction of the fact itself: both happen, or neither."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from app.db import now
from app.tables import RunRow
from app.webhooks.events import WebhookEvent
from app.webhooks.tables import DeliveryRow, WebhookRow


def tell(session: Session, event: WebhookEvent, run: RunRow, data: dict[str, Any]) -> None:
    """Tell every webhook that wants to hear of `event`. `data` has names and numbers, never text of a model."""
    for webhook in session.exec(select(WebhookRow).where(col(WebhookRow.disabled_at).is_(None)).order_by(col(WebhookRow.id))).all():
        if event in webhook.events:
            about = {"run": {"id": run.id, "name": run.name, "owner": run.owner, "tags": run.tags, "status": run.status}}
            put(session, webhook, event, about | data, run_id=run.id)


def put(session: Session, webhook: WebhookRow, event: str, data: dict[str, Any], *, run_id: int | None = None) -> DeliveryRow:
    """One delivery, to be tried at once."""
    moment = now()
    assert webhook.id is not None
    body = {"type": event, "timestamp": moment.isoformat(), "data": data}
    delivery = DeliveryRow(webhook_id=webhook.id, event=event, run_id=run_id, body=body, created_at=moment, next_try_at=moment)
    session.add(delivery)
    session.flush()
    return delivery
