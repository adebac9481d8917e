"""Many viewers of a run cost what one costs, and each sees everything once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest.mock import patch

from sqlalchemy import Engine

from app import live
from app.db import writing
from app.lifecycle.runs import Claim
from app.live import Bell, Told, Viewer
from app.records.ingest import ingest
from tests.loops import run
from tests.unit.app.factories import claimed, exchange, queued_run


def put(engine: Engine, claim: Claim, first: int, count: int) -> None:
    with writing(engine) as session:
        ingest(session, claim.run_id, claim.token, [exchange(first + index, index=index) for index in range(count)])


async def collect(viewer: Viewer, count: int) -> list[Told]:
    found: list[Told] = []
    while len(found) < count:
        found += await asyncio.wait_for(viewer.next(), 20)
    return found


def test_sql_is_asked_once_for_all_who_watch_a_run(lasting_engine: Engine) -> None:
    claim = claimed(lasting_engine, queued_run(lasting_engine))
    put(lasting_engine, claim, 100, 5)

    async def watch() -> None:
        bell = Bell("")
        bell.hears = True
        viewers = [bell.watch(lasting_engine, claim.run_id, 0) for _ in range(20)]
        seen = [await collect(viewer.__enter__(), 7) for viewer in viewers]  # with the run's two changes of status
        watching = asyncio.gather(*(collect(viewer, 5) for viewer in bell._feeds[claim.run_id].viewers))
        await asyncio.sleep(0)
        with patch.object(live, "_read_after", wraps=live._read_after) as asked:
            put(lasting_engine, claim, 200, 5)
            bell._wake([claim.run_id])
            told = await watching
        assert asked.call_count == 1
        assert all([row.seq for row in rows[2:]] == list(range(100, 105)) for rows in seen)
        assert all([row.seq for row in rows] == list(range(200, 205)) for rows in told)
        for viewer in viewers:
            viewer.__exit__(None, None, None)
        assert not bell._feeds  # nothing is kept for nobody

    run(watch)


def test_one_who_comes_late_or_falls_behind_misses_nothing(lasting_engine: Engine) -> None:
    """More happens than is kept for viewers: whoever was away reads the rest from SQL."""
    claim = claimed(lasting_engine, queued_run(lasting_engine))

    async def watch() -> tuple[Sequence[Told], Sequence[Told]]:
        bell = Bell("")
        bell.hears = True
        with bell.watch(lasting_engine, claim.run_id, 0) as quick, bell.watch(lasting_engine, claim.run_id, 0) as slow:
            await collect(quick, 2)
            fast: list[Told] = []
            for batch in range(5):
                put(lasting_engine, claim, 1000 * batch + 100, 600)
                bell._wake([claim.run_id])
                fast += await collect(quick, 600)
            behind = await collect(slow, 3002)
            return fast, behind[2:]

    quick, slow = run(watch)
    expected = [1000 * batch + 100 + index for batch in range(5) for index in range(600)]
    assert [row.seq for row in quick] == expected
    assert [row.seq for row in slow] == expected


def test_a_viewer_can_wait_for_a_while_only(lasting_engine: Engine) -> None:
    claim = claimed(lasting_engine, queued_run(lasting_engine))

    async def watch() -> None:
        with Bell("").watch(lasting_engine, claim.run_id, 2**40) as viewer:
            assert await viewer.next(0.05) == []
            assert viewer.place == 2**40

    run(watch)
