"""The pages' live streams: names and places, never content. What they announce, the page then asks SQL for.

A batch of training events becomes at most one message of each name, so that a fast run can't flood a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from anyio import to_thread
from sqlalchemy import Engine
from sqlmodel import col, select
from sse_starlette import ServerSentEvent

from app.db import reading
from app.live import Bell, follow
from app.tables import EventRow

NAMES = {
    "status_changed": "head",
    "run_changed": "head",
    "run_started": "head",
    "step_finished": "step",
    "exchange_recorded": "exchanges",
    "round_started": "results",
    "evaluation_finished": "results",
    "gate_decided": "results",
    "phase_started": "results",
    "phase_finished": "results",
    "break_rescue_measured": "results",
    "run_finished": "results",
}
"""Kind of event -> the message that a run's page hears. Others concern no page."""
BREATH_SECONDS = 0.25
"""Least time between two batches: what happens meanwhile is told together."""
LIST_SECONDS = 0.7
"""How often the runs list looks for news."""
QUIET = ("exchange_recorded", "checkpoint_saved")
"""Kinds that change nothing on the runs list."""


async def run_stream(engine: Engine, bell: Bell, run_id: int, after: int) -> AsyncIterator[ServerSentEvent]:
    """What a run's page hears, from arrival `after` on."""
    async for rows in follow(engine, bell, run_id, after):
        place = str(rows[-1].id)
        for name in sorted({NAMES[row.kind] for row in rows if row.kind in NAMES}):
            yield ServerSentEvent(event=name, id=place, data=place)
        await asyncio.sleep(BREATH_SECONDS)


async def list_stream(engine: Engine, after: int) -> AsyncIterator[ServerSentEvent]:
    """What the runs list hears: `runs`, when any run has news, from arrival `after` on."""
    while True:
        newest = await to_thread.run_sync(_newest, engine, after)
        if newest is not None:
            after = newest
            yield ServerSentEvent(event="runs", id=str(after), data=str(after))
        await asyncio.sleep(LIST_SECONDS)


def _newest(engine: Engine, after: int) -> int | None:
    with reading(engine) as session:
        later = select(EventRow.id).where(col(EventRow.id) > after, col(EventRow.kind).not_in(QUIET)).order_by(col(EventRow.id).desc())
        return session.exec(later.limit(1)).first()
