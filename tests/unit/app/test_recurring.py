"""What a server does beside its answers is done again, whatever befell it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from sqlalchemy.exc import OperationalError

from app.processes.recurring import again_and_again
from opcod.errors import ResourceError


def test_no_error_ends_it_and_each_is_told(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [
        OperationalError("SELECT 1", None, Exception("the database is away")),
        ResourceError("The store is away.", advice="Bring it back."),
        ZeroDivisionError("a fault of ours"),
    ]
    done = asyncio.Event()

    async def work() -> None:
        if errors:
            raise errors.pop(0)
        done.set()

    async def go() -> None:
        task = asyncio.create_task(again_and_again("the chore", work, 0.001))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(go())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR"]
    for part in ("the database is away", "The store is away.", "a fault of ours"):
        assert part in caplog.text


def test_where_there_is_more_it_goes_on_at_once() -> None:
    left = 3
    done = asyncio.Event()

    async def work() -> bool:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return left > 0

    async def go() -> None:
        task = asyncio.create_task(again_and_again("the chore", work, 3600))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    asyncio.run(go())
    assert left == 0
