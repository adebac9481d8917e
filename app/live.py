"""The live bell: says that a run has something new; what it is stands in SQL.

Redis pub/sub carries the run's number and nothing else. Whoever hears nothing looks into SQL from time
to time, so that a broken broker makes pages slower and never wrong. However many watch a run, this
process asks SQL once for all of them, and keeps the newest events for those who come a little later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any

import redis
import redis.asyncio
from anyio import to_thread
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import Engine, func
from sqlmodel import col, select

from app import broker
from app.db import reading
from app.tables import EventRow

logger = logging.getLogger(__name__)

CHANNEL = "opcod:run:"
ATTENTIVE_SECONDS = 5.0
"""How often SQL is asked while the bell works."""
DEAF_SECONDS = 1.0
"""How often it is asked while the bell does not."""
BATCH = 500
KEPT = 1000
"""A run's newest events that are kept for its viewers."""


def ring(broker_url: str, run_id: int) -> None:
    """Say that `run_id` has something new, after the transaction has committed. Never fails: it logs and goes on."""
    if not broker_url:
        return
    try:
        broker.client(broker_url).publish(f"{CHANNEL}{run_id}", "")
    except (redis.RedisError, OSError) as error:
        logger.warning("The live bell of run %s did not ring: %s", run_id, error)


@dataclass(frozen=True)
class Told:
    """One event of a run's stream."""

    id: int
    """Arrival number."""
    seq: int | None
    kind: str
    data: dict[str, Any]
    at: datetime

    @cached_property
    def message(self) -> bytes:
        """As a server-sent event, written once for all viewers."""
        data = {"seq": self.seq, "kind": self.kind, "at": self.at.isoformat(), **self.data}
        return f"event: {self.kind}\r\nid: {self.id}\r\ndata: {json.dumps(data)}\r\n\r\n".encode()


class Bell:
    """Hears the bell for every viewer of this process. `listen` runs as one task for the process's whole life."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._feeds: dict[int, Feed] = {}
        self.hears = False
        """Whether the broker is being listened to."""

    async def listen(self) -> None:
        """Pass on every ring, for ever; connects again when the broker comes back."""
        while self._broker_url:
            try:
                await self._listen_once()
            except (redis.RedisError, OSError) as error:
                if self.hears:
                    logger.warning("The live bell is silent, pages ask SQL instead: %s", error)
            finally:
                self.hears = False
                self._wake(list(self._feeds))  # they look into SQL now, and more often from now on
            await asyncio.sleep(DEAF_SECONDS)

    async def _listen_once(self) -> None:
        client = redis.asyncio.Redis.from_url(
            broker.redis_url(self._broker_url), socket_connect_timeout=2, health_check_interval=10, retry=Retry(NoBackoff(), 0)
        )
        try:
            async with client.pubsub() as channel:
                await channel.psubscribe(f"{CHANNEL}*")
                self.hears = True
                self._wake(list(self._feeds))  # what was rung while nobody listened
                async for message in channel.listen():
                    if message["type"] == "pmessage":
                        name = message["channel"].decode().removeprefix(CHANNEL)
                        self._wake([int(name)] if name.isdigit() else [])
        finally:
            await client.aclose()

    def _wake(self, run_ids: Sequence[int]) -> None:
        for run_id in run_ids:
            feed = self._feeds.get(run_id)
            if feed is not None:
                feed.wake()

    @property
    def patience(self) -> float:
        """Seconds after which SQL is asked although nothing was heard."""
        return ATTENTIVE_SECONDS if self.hears else DEAF_SECONDS

    @contextmanager
    def watch(self, engine: Engine, run_id: int, after: int) -> Iterator[Viewer]:
        """A viewer of `run_id` who has seen everything up to arrival number `after`."""
        feed = self._feeds.setdefault(run_id, Feed(engine, run_id))
        viewer = Viewer(self, feed, after)
        feed.viewers.add(viewer)
        try:
            yield viewer
        finally:
            feed.viewers.discard(viewer)
            if not feed.viewers and self._feeds.get(run_id) is feed:
                del self._feeds[run_id]


class Feed:
    """The newest events of one run: read once for all of this process's viewers.

    A run's arrival numbers rise in the order in which they become visible, so that what comes after the
    newest one known is all that is new.
    """

    def __init__(self, engine: Engine, run_id: int) -> None:
        self._engine, self._run_id = engine, run_id
        self.viewers: set[Viewer] = set()
        self._tail: list[Told] = []
        self._floor: int | None = None
        """Everything after this is in the tail; None: nothing has been read yet."""
        self._newest = 0
        self._rung = True
        self._asked_at = -math.inf
        self._asking = asyncio.Lock()

    def wake(self) -> None:
        """The run has news."""
        self._rung = True
        for viewer in self.viewers:
            viewer.rung.set()

    async def after(self, arrival: int, patience: float) -> Sequence[Told]:
        """Events after `arrival`, at most `BATCH`. SQL is asked if the bell has rung or was silent for `patience` seconds."""
        async with self._asking:
            if self._rung or time.monotonic() - self._asked_at >= patience:
                self._rung, self._asked_at = False, time.monotonic()  # what is rung from now on asks again
                await self._catch_up()
        if self._floor is not None and arrival >= self._floor:
            start = bisect_right(self._tail, arrival, key=attrgetter("id"))
            return self._tail[start : start + BATCH]
        return await to_thread.run_sync(_read_after, self._engine, self._run_id, arrival)

    async def _catch_up(self) -> None:
        try:
            if self._floor is None:
                self._floor = self._newest = await to_thread.run_sync(_newest, self._engine, self._run_id)
                return
            while rows := await to_thread.run_sync(_read_after, self._engine, self._run_id, self._newest):
                self._newest = rows[-1].id
                self._tail.extend(rows)
                if len(self._tail) > 2 * KEPT:
                    self._floor = self._tail[-KEPT - 1].id
                    del self._tail[:-KEPT]
                if len(rows) < BATCH:
                    return
        except BaseException:
            self._rung = True  # it was not read
            raise


class Viewer:
    """One who watches a run, and how far they have come."""

    def __init__(self, bell: Bell, feed: Feed, after: int) -> None:
        self._bell, self._feed, self.place = bell, feed, after
        self.rung = asyncio.Event()

    async def next(self, seconds: float = math.inf) -> Sequence[Told]:
        """What comes next: what is there already, or what happens within `seconds`; nothing where nothing does."""
        deadline = time.monotonic() + seconds
        while True:
            self.rung.clear()  # before SQL is asked, so that nothing falls between the two
            rows = await self._feed.after(self.place, self._bell.patience)
            left = deadline - time.monotonic()
            if rows or left <= 0:
                self.place = rows[-1].id if rows else self.place
                return rows
            with suppress(TimeoutError):
                await asyncio.wait_for(self.rung.wait(), min(self._bell.patience, left))


async def follow(engine: Engine, bell: Bell, run_id: int, after: int) -> AsyncIterator[Sequence[Told]]:
    """Batches of the run's stream after arrival number `after`, for ever: first what is there, then what comes."""
    with bell.watch(engine, run_id, after) as viewer:
        while True:
            yield await viewer.next()


def _newest(engine: Engine, run_id: int) -> int:
    with reading(engine) as session:
        return session.exec(select(func.max(col(EventRow.id))).where(col(EventRow.run_id) == run_id)).one() or 0


def _read_after(engine: Engine, run_id: int, after: int) -> list[Told]:
    columns = select(EventRow.id, EventRow.seq, EventRow.kind, EventRow.data, EventRow.at)  # type: ignore[call-overload]
    later = columns.where(col(EventRow.run_id) == run_id, col(EventRow.id) > after).order_by(col(EventRow.id)).limit(BATCH)
    with reading(engine) as session:
        return [Told(*row) for row in session.exec(later).all()]
