"""A run's live stream as server-sent events: what happened and where it stands, never the thing itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sse_starlette import EventSourceResponse

from app.api.dependencies import CurrentBell, CurrentEngine, RunId
from app.db import reading
from app.live import Bell, follow
from app.records import queries

router = APIRouter(tags=["records"])

HEARTBEAT_SECONDS = 15


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def events(
    run_id: RunId,
    engine: CurrentEngine,
    bell: CurrentBell,
    kind: Annotated[list[str] | None, Query(description="Only these kinds; repeat it for more.")] = None,
    after: Annotated[int, Query(description="Arrival number to go on after; `Last-Event-ID` goes before it.", ge=0, le=2**62)] = 0,
    last_event_id: Annotated[str | None, Header(description="Sent by browsers when they connect again.")] = None,
) -> EventSourceResponse:
    """Everything after an arrival number, then whatever comes. `event` is the kind, `id` the arrival number, `data` names and numbers.

    Kinds are those of the training events, and `status_changed`. Read the things themselves from the other paths.
    """
    await to_thread.run_sync(_check, engine, run_id)
    start = (
        int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19 else after
    )
    return EventSourceResponse(_messages(engine, bell, run_id, start, frozenset(kind or ())), ping=HEARTBEAT_SECONDS)


async def _messages(engine: Engine, bell: Bell, run_id: int, after: int, kinds: frozenset[str]) -> AsyncIterator[bytes]:
    try:
        async for rows in follow(engine, bell, run_id, after):
            if messages := b"".join(row.message for row in rows if not kinds or row.kind in kinds):
                yield messages
    except OperationalError:
        return  # the database is away: the viewer connects again and goes on after its last event


def _check(engine: Engine, run_id: int) -> None:
    with reading(engine) as session:
        queries.run_row(session, run_id)
