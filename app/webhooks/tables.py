"""The tables of webhooks: whom to tell, what is to be told, and every try."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, Index, Text
from sqlmodel import Field, SQLModel

from app.columns import BIG_INTEGER, UtcDateTime
from app.db import now
from app.tables import NEVER_REUSED


class WebhookRow(SQLModel, table=True):
    """An address that is told of events."""

    __tablename__: ClassVar[str] = "webhooks"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True)
    owner: str = Field(index=True)
    url: str = Field(sa_type=Text)
    events: list[str] = Field(sa_type=JSON)
    sealed_secret: str = Field(sa_type=Text)
    """What deliveries are signed with, sealed by the vault."""
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    failing_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when no delivery has got through."""
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    disabled_why: str | None = None


class DeliveryRow(SQLModel, table=True):
    """One event for one webhook: written in the transaction of the fact that it tells."""

    __tablename__: ClassVar[str] = "deliveries"
    __table_args__: ClassVar[Any] = (Index(None, "next_try_at", "id"), Index(None, "webhook_id", "id"), NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    webhook_id: int = Field(foreign_key="webhooks.id")
    event: str
    run_id: int | None = Field(default=None, foreign_key="runs.id", index=True)
    body: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    tries: int = 0
    next_try_at: datetime | None = Field(default_factory=now, sa_type=UtcDateTime)
    """None: delivered, or given up."""
    delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class DeliveryTryRow(SQLModel, table=True):
    """One request that was made for a delivery, and what came of it."""

    __tablename__: ClassVar[str] = "delivery_tries"
    __table_args__: ClassVar[Any] = NEVER_REUSED
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_INTEGER)
    delivery_id: int = Field(foreign_key="deliveries.id", index=True, ondelete="CASCADE", sa_type=BIG_INTEGER)
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    status: int | None = None
    """Of the answer; None where there was none."""
    seconds: float
    answer: str = Field(sa_type=Text)
    """The answer's first part, or what went wrong."""
