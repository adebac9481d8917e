"""What webhooks can be told of, free of the database, so that clients may know it too."""

from __future__ import annotations

from typing import Literal, get_args

WebhookEvent = Literal["run.completed", "run.failed", "gate.changed"]
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
PING = "ping"
