"""The live bell: says that a run has something new; what it is stands in SQL.

Redis pub/sub carries the run's number and nothing else. Whoever hears nothing looks into SQL from time
to time, so that a broken broker makes pages slower and never wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

import redis
import redis.asyncio
from anyio import to_thread
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import Engine
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


def ring(broker_url: str, run_id: int) -> None:
    """Say that `run_id` has something new, after the transaction has committed. Never fails: it logs and goes on."""
    if not broker_url:
        return
    try:
        broker.client(broker_url).publish(f"{CHANNEL}{run_id}", "")
    except (redis.RedisError, OSError) as error:
        logger.warning("The live bell of run %s did not ring: %s", run_id, error)


class Bell:
    """Hears the bell for every viewer of this process. `listen` runs as one task for the process's whole life."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._viewers: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
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
                self._wake(list(self._viewers))  # they look into SQL now, and more often from now on
            await asyncio.sleep(DEAF_SECONDS)

    async def _listen_once(self) -> None:
        client = redis.asyncio.Redis.from_url(
            broker.redis_url(self._broker_url), socket_connect_timeout=2, health_check_interval=10, retry=Retry(NoBackoff(), 0)
        )
        try:
            async with client.pubsub() as channel:
                await channel.psubscribe(f"{CHANNEL}*")
                self.hears = True
                self._wake(list(self._viewers))  # what was rung while nobody listened
                async for message in channel.listen():
                    if message["type"] == "pmessage":
                        name = message["channel"].decode().removeprefix(CHANNEL)
                        self._wake([int(name)] if name.isdigit() else [])
        finally:
            await client.aclose()

    def _wake(self, run_ids: Sequence[int]) -> None:
        for run_id in run_ids:
            for viewer in self._viewers.get(run_id, ()):
                viewer.set()

    @contextmanager
    def heard(self, run_id: int) -> Iterator[asyncio.Event]:
        """An event that is set at each ring of `run_id`."""
        viewer = asyncio.Event()
        self._viewers[run_id].add(viewer)
        try:
            yield viewer
        finally:
            self._viewers[run_id].discard(viewer)
            if not self._viewers[run_id]:
                del self._viewers[run_id]


async def follow(engine: Engine, bell: Bell, run_id: int, after: int) -> AsyncIterator[list[EventRow]]:
    """Batches of the run's stream after arrival id `after`, for ever: first what is there, then what comes.

    The bell is listened to before SQL is asked, so that nothing falls between the two.
    """
    with bell.heard(run_id) as rung:
        while True:
            rung.clear()
            rows = await to_thread.run_sync(_read_after, engine, run_id, after)
            if rows:
                after = rows[-1].id or after
                yield rows
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), ATTENTIVE_SECONDS if bell.hears else DEAF_SECONDS)


def _read_after(engine: Engine, run_id: int, after: int) -> list[EventRow]:
    with reading(engine) as session:
        later = select(EventRow).where(col(EventRow.run_id) == run_id, col(EventRow.id) > after).order_by(col(EventRow.id)).limit(BATCH)
        return list(session.exec(later).all())
