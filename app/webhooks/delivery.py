"""Empties the outbox. A delivery is taken by moving its next try ahead, so that of several servers one sends it.

It is sent at least once: a server that ends between the answer and its note sends again, under the same id.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
from anyio import to_thread
from sqlalchemy import Engine, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from app.db import now, reading, writing
from app.guards import outbound
from app.guards.outbound import OutboundRefused, Reply
from app.secrets.vault import open_vault
from app.settings import Settings
from app.webhooks import signing
from app.webhooks.tables import DeliveryRow, DeliveryTryRow, WebhookRow
from opcod.errors import ResourceError

logger = logging.getLogger(__name__)

PAUSES: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between one try and the next, a fifth more or less; after the last one a delivery is given up."""
TAKEN_SECONDS = 60.0
"""For so long nobody else tries: longer than a request may take."""
AT_ONCE = 16
DISABLED_AFTER = timedelta(days=5)
"""A webhook that nothing has reached for so long is asked no more."""
KEPT_ANSWER = 500


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that this process has taken."""

    id: int
    url: str
    sealed_secret: str
    body: bytes
    tries: int


async def deliver(engine: Engine, settings: Settings) -> int:
    """Try deliveries that are due, `AT_ONCE` of them at most; returns how many were tried."""
    due = await to_thread.run_sync(_take, engine)
    await asyncio.gather(*(_try(engine, settings, delivery) for delivery in due))
    return len(due)


def _take(engine: Engine) -> list[Due]:
    moment = now()
    with reading(engine) as session:  # a look first: the usual answer is that nothing is due, and takes no lock
        if session.exec(select(col(DeliveryRow.id)).where(col(DeliveryRow.next_try_at) <= moment).limit(1)).first() is None:
            return []
    taken = []
    with writing(engine) as session:
        found = session.exec(
            select(DeliveryRow, WebhookRow)
            .join(WebhookRow, col(WebhookRow.id) == col(DeliveryRow.webhook_id))
            .where(col(DeliveryRow.next_try_at) <= moment)
            .order_by(col(DeliveryRow.next_try_at), col(DeliveryRow.id))
            .limit(AT_ONCE)
            .with_for_update(of=DeliveryRow, skip_locked=True)
        ).all()
        for delivery, webhook in found:
            assert delivery.id is not None
            if webhook.disabled_at is not None:
                delivery.next_try_at = None
                continue
            delivery.next_try_at = moment + timedelta(seconds=TAKEN_SECONDS)
            body = json.dumps(delivery.body, separators=(",", ":")).encode("utf-8")
            taken.append(Due(delivery.id, webhook.url, webhook.sealed_secret, body, delivery.tries))
    return taken


async def _try(engine: Engine, settings: Settings, due: Due) -> None:
    began = now()
    reply: Reply | None = None
    try:
        secret = (await to_thread.run_sync(open_vault, settings)).open(due.sealed_secret)
        headers = {
            "content-type": "application/json",
            "user-agent": "OPCoD-Studio",
            **signing.headers(secret, f"msg_{due.id}", began, due.body),
        }
        reply = await outbound.send(due.url, due.body, headers, allow=settings.outbound_allow)
        said = reply.text
    except (OutboundRefused, ResourceError) as error:
        said = error.message
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
    seconds = (now() - began).total_seconds()
    try:
        await to_thread.run_sync(_note, engine, due, began, reply.status if reply else None, seconds, said)
    except SQLAlchemyError as error:
        logger.warning("What came of delivery %s could not be noted, it is sent again: %s", due.id, error)


def _note(engine: Engine, due: Due, began: datetime, status: int | None, seconds: float, said: str) -> None:
    with writing(engine) as session:
        delivery = session.get(DeliveryRow, due.id)
        if delivery is None:
            return  # the webhook was deleted meanwhile
        answer = said[:KEPT_ANSWER].replace("\x00", "\ufffd")
        session.add(DeliveryTryRow(delivery_id=due.id, at=began, status=status, seconds=seconds, answer=answer))
        delivery.tries = due.tries + 1
        webhook = session.get_one(WebhookRow, delivery.webhook_id)
        if status is not None and 200 <= status < 300:
            delivery.delivered_at, delivery.next_try_at, webhook.failing_since = now(), None, None
            return
        _failed(session, webhook, delivery, gone=status == 410)


def _failed(session: Session, webhook: WebhookRow, delivery: DeliveryRow, *, gone: bool) -> None:
    """Another try later, or none. `gone`: the other side says that it wants to hear no more."""
    moment = now()
    webhook.failing_since = webhook.failing_since or moment
    if gone or moment - webhook.failing_since > DISABLED_AFTER:
        webhook.disabled_at = moment
        webhook.disabled_why = "It answered 410 Gone." if gone else f"Nothing has got through for {DISABLED_AFTER.days} days."
        session.exec(
            update(DeliveryRow)
            .where(col(DeliveryRow.webhook_id) == webhook.id, col(DeliveryRow.next_try_at).is_not(None))
            .values(next_try_at=None)
        )
        delivery.next_try_at = None
    elif delivery.tries <= len(PAUSES):
        pause = PAUSES[delivery.tries - 1] * random.uniform(0.8, 1.2)
        delivery.next_try_at = moment + timedelta(seconds=pause)
    else:
        delivery.next_try_at = None
