"""What the REST interface says of webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.shapes import Shape
from app.webhooks.events import WebhookEvent


class Webhook(Shape):
    """An address that is told of events."""

    id: int = Field(description="Its number.")
    owner: str = Field(description="Whose it is.")
    url: str = Field(description="Where deliveries are sent.")
    events: list[WebhookEvent] = Field(description="What it is told of.")
    created_at: datetime = Field(description="When it was made.")
    failing_since: datetime | None = Field(description="Since when nothing has got through; null while deliveries do.")
    disabled_at: datetime | None = Field(description="Since when it is told nothing; null while it is.")
    disabled_why: str | None = Field(description="Why it is told nothing.")


class NewWebhookShape(Webhook):
    """A webhook that was just made."""

    secret: str = Field(description="Checks signatures (Standard Webhooks). It is shown now and never again.")


class Delivery(Shape):
    """One event for one webhook."""

    id: int = Field(description="Its number; `webhook-id` is `msg_` and this.")
    event: str = Field(description="What happened, or `ping`.")
    run_id: int | None = Field(description="The run that it is about.")
    body: dict[str, Any] = Field(description="What is sent.")
    created_at: datetime = Field(description="When it happened.")
    tries: int = Field(description="Requests made so far.")
    next_try_at: datetime | None = Field(description="When it is tried next; null once delivered or given up.")
    delivered_at: datetime | None = Field(description="When it got through.")
    last_status: int | None = Field(None, description="Of the last answer; null where there was none.")
    last_answer: str = Field("", description="The last answer's first part, or what went wrong.")


class DeliveryTry(Shape):
    """One request that was made for a delivery."""

    id: int = Field(description="Its number; later ones are higher.")
    at: datetime = Field(description="When it was made.")
    status: int | None = Field(description="Of the answer; null where there was none.")
    seconds: float = Field(description="How long it took.")
    answer: str = Field(description="The answer's first part, or what went wrong.")


class NewWebhook(BaseModel):
    """An address to tell of events."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://hooks.example.org/opcod", "events": ["run.completed", "run.failed"]}]},
    )

    url: str = Field(description="Where deliveries are sent: http or https, reachable from the internet.", min_length=8, max_length=2000)
    events: list[WebhookEvent] = Field(description="What to tell it of.", min_length=1, max_length=8)


class WebhookChange(BaseModel):
    """What may change of a webhook. What is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: str | None = Field(None, description="Another address.", min_length=8, max_length=2000)
    events: list[WebhookEvent] | None = Field(None, description="All that it is told of.", min_length=1, max_length=8)
    enabled: bool | None = Field(None, description="Tell it nothing for now, or tell it again.")
