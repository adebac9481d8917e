"""Webhooks: make, change, delete, test; read what was delivered and send it again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response, status

from app import shapes
from app.api.dependencies import LARGEST_ID, CurrentEngine, CurrentPerson, CurrentSettings, Cursor, Limit, Reader
from app.db import writing
from app.records import queries
from app.webhooks import registry
from app.webhooks.shapes import Delivery, DeliveryTry, NewWebhook, NewWebhookShape, Webhook, WebhookChange

router = APIRouter(tags=["webhooks"])

WebhookId = Annotated[int, Path(description="The webhook's number.", ge=1, le=LARGEST_ID)]
DeliveryId = Annotated[int, Path(description="The delivery's number.", ge=1, le=LARGEST_ID)]


@router.get("/webhooks")
def webhook_list(session: Reader, person: CurrentPerson, cursor: Cursor = None, limit: Limit = 50) -> shapes.Listing[Webhook]:
    """Your webhooks, for admins everybody's, newest first."""
    items, further = registry.of_person(session, person, before=queries.cursor(cursor), limit=limit)
    return shapes.Listing(items=items, next_cursor=further)


@router.post("/webhooks", status_code=status.HTTP_201_CREATED)
def create(body: NewWebhook, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> NewWebhookShape:
    """Tell an address of events. Deliveries are signed (Standard Webhooks), tried again for three days, and logged."""
    registry.check(body.url, settings)
    with writing(engine) as session:
        row, secret = registry.make(session, settings, person, body.url, body.events)
        return NewWebhookShape(**Webhook.model_validate(row).model_dump(), secret=secret)


@router.get("/webhooks/{webhook_id}")
def read(webhook_id: WebhookId, session: Reader, person: CurrentPerson) -> Webhook:
    """One webhook."""
    return Webhook.model_validate(registry.get(session, person, webhook_id))


@router.patch("/webhooks/{webhook_id}")
def change(webhook_id: WebhookId, body: WebhookChange, engine: CurrentEngine, settings: CurrentSettings, person: CurrentPerson) -> Webhook:
    """Give it another address or other events, turn it off or on."""
    if body.url is not None:
        registry.check(body.url, settings)
    with writing(engine) as session:
        row = registry.get(session, person, webhook_id)
        registry.change(session, row, body.model_dump(exclude_unset=True, exclude_none=True))
        return Webhook.model_validate(row)


@router.delete("/webhooks/{webhook_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete(webhook_id: WebhookId, engine: CurrentEngine, person: CurrentPerson) -> Response:
    """Delete it with its deliveries."""
    with writing(engine) as session:
        registry.remove(session, registry.get(session, person, webhook_id))
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/webhooks/{webhook_id}:ping", status_code=status.HTTP_202_ACCEPTED)
def ping(webhook_id: WebhookId, engine: CurrentEngine, person: CurrentPerson) -> Delivery:
    """Send it something that says nothing but that it came through; look among its deliveries for what came of it."""
    with writing(engine) as session:
        return Delivery.model_validate(registry.ping(session, registry.get(session, person, webhook_id)))


@router.get("/webhooks/{webhook_id}/deliveries")
def deliveries(
    webhook_id: WebhookId, session: Reader, person: CurrentPerson, cursor: Cursor = None, limit: Limit = 50
) -> shapes.Listing[Delivery]:
    """What it was told, newest first, with the last answer."""
    registry.get(session, person, webhook_id)
    items, further = registry.deliveries(session, webhook_id, before=queries.cursor(cursor), limit=limit)
    return shapes.Listing(items=items, next_cursor=further)


@router.get("/webhooks/{webhook_id}/deliveries/{delivery_id}/tries")
def tries(
    webhook_id: WebhookId, delivery_id: DeliveryId, session: Reader, person: CurrentPerson, cursor: Cursor = None, limit: Limit = 50
) -> shapes.Listing[DeliveryTry]:
    """Every request that was made for a delivery, newest first: when, how long, and what was answered."""
    hook = registry.get(session, person, webhook_id)
    items, further = registry.tries(session, hook, delivery_id, before=queries.cursor(cursor), limit=limit)
    return shapes.Listing(items=items, next_cursor=further)


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}:redeliver", status_code=status.HTTP_202_ACCEPTED)
def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, engine: CurrentEngine, person: CurrentPerson) -> Delivery:
    """Send a delivery again, under the same id."""
    with writing(engine) as session:
        return Delivery.model_validate(registry.redeliver(session, registry.get(session, person, webhook_id), delivery_id))
