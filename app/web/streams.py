"""The pages' live streams: names and places, never content. What they announce, the page then asks SQL for.

A batch of training events becomes at most one message of each name, and what happens all the time is told
once a second, so that neither a fast run nor many viewers can flood pages and server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from anyio import to_thread
from sqlalchemy import Engine, func
from sqlmodel import col, select
from sse_starlette import ServerSentEvent

from app.db import reading
from app.live import Bell
from app.tables import EventRow
from app.web.shared import QUIET

NAMES = {
    "status_changed": "head",
    "run_changed": "head",
    "notice": "head",
    "checkpoints_changed": "files",
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
FREQUENT = {"step", "exchanges"}
"""Messages that can wait for others of their kind."""
BREATH_SECONDS = 0.25
"""Least time between two batches: what happens meanwhile is told together."""
FREQUENT_SECONDS = 1.0
"""Least time between two batches of nothing but frequent messages."""
LIST_SECONDS = 0.7
"""How often the runs list looks for news."""
LIST_STEPS_SECONDS = 3.0
"""How often mere progress is told to the runs list; a change of status at once."""
PROGRESS = {"step_finished"}


async def run_stream(engine: Engine, bell: Bell, run_id: int, after: int) -> AsyncIterator[ServerSentEvent]:
    """What a run's page hears, from arrival `after` on."""
    held: set[str] = set()
    due = 0.0
    with bell.watch(engine, run_id, after) as viewer:
        while True:
            rows = await (viewer.next(max(0.0, due - time.monotonic())) if held else viewer.next())
            held |= {NAMES[row.kind] for row in rows if row.kind in NAMES}
            if held - FREQUENT or (held and time.monotonic() >= due):
                place = str(viewer.place)
                for name in sorted(held):
                    yield ServerSentEvent(event=name, id=place, data=place)
                held.clear()
                due = time.monotonic() + FREQUENT_SECONDS
            if rows:
                await asyncio.sleep(BREATH_SECONDS)


async def list_stream(engine: Engine, after: int) -> AsyncIterator[ServerSentEvent]:
    """What the runs list hears: `runs`, when any run has news, from arrival `after` on."""
    news = _NEWS.setdefault(engine, News(engine))
    due = 0.0
    while True:
        newest, urgent = await news.look()
        if urgent > after or (newest > after and time.monotonic() >= due):
            after = newest
            due = time.monotonic() + LIST_STEPS_SECONDS
            yield ServerSentEvent(event="runs", id=str(after), data=str(after))
        await asyncio.sleep(LIST_SECONDS)


class News:
    """The arrival numbers of the newest event of any run that a list shows, and of the newest that cannot wait.

    SQL is asked once for all of this process's viewers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._newest = self._urgent = self._seen = 0
        self._looked_at = 0.0
        self._looking = asyncio.Lock()

    async def look(self) -> tuple[int, int]:
        """Both numbers, at most `LIST_SECONDS` old."""
        async with self._looking:
            if time.monotonic() - self._looked_at > LIST_SECONDS / 2:
                self._seen, kinds = await to_thread.run_sync(_newest_by_kind, self._engine, self._seen)
                self._newest = max([self._newest, *kinds.values()])
                self._urgent = max([self._urgent, *(arrival for kind, arrival in kinds.items() if kind not in PROGRESS)])
                self._looked_at = time.monotonic()
        return self._newest, self._urgent


_NEWS: WeakKeyDictionary[Engine, News] = WeakKeyDictionary()


def _newest_by_kind(engine: Engine, after: int) -> tuple[int, dict[str, int]]:
    """How far it looked, and kind -> newest arrival number after `after`, of those that a list shows. The first look is a short one."""
    with reading(engine) as session:
        newest = session.exec(select(func.max(col(EventRow.id)))).one() or 0
        after = after or newest - 2000
        later = select(EventRow.kind, func.max(col(EventRow.id))).where(col(EventRow.id) > after, col(EventRow.id) <= newest)
        found = session.exec(later.where(col(EventRow.kind).not_in(QUIET)).group_by(EventRow.kind)).all()
        return newest, {kind: arrival for kind, arrival in found if arrival is not None}
